"""Command lines and settings that nobody would think of."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import said

COMMANDS = (
    "run", "plan", "status", "why", "path", "verify", "gc", "config", "doctor", "init", "index",
    "descriptions", "attention", "crops", "embeddings", "scores", "metrics", "nonsense", "",
)  # fmt: skip

SECTIONS = (
    "dataset", "index", "clip", "descriptions", "attention", "crops", "raw", "windows", "feature",
    "squares", "scores", "methods", "layout", "runtime", "paths", "nonsense", "",
)  # fmt: skip

FIELDS = (
    "name", "root", "reader", "split", "image", "label", "names", "max_skipped", "model", "weights",
    "precision", "cupl", "clip", "waffle", "alpha", "beta", "k", "layer", "seed", "sizes",
    "temperature", "prompt", "gain", "shape", "index", "draws", "view", "encode", "n", "m",
    "methods", "logit_scale", "expectation", "classes", "wca", "pool", "images", "crops", "device",
    "batch_size", "threads", "artifacts", "data", "nonsense", "cupl.file", "cupl.rule", "wca.n", "",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 0.5, -0.0, 1e308, 1e-320, "nan", ".inf", "-.inf",
    True, False, None, "", " ", "x", "é", "☃", "\u202e", "\x7f", "a" * 5000, "../../etc/passwd",
    "/dev/null", "/dev/full", "~nobody/x", "~", "//", "{}", "[]", "[1, 2", "{a: ", "&a [*a]",
    "!!python/object:os.system x", "2026-01-01", "0x1f", "1_000", "yes", "abs", "all", "drawn",
    "official", "cuda:7", "meta", "local-dir:/nowhere", "hf-hub:no/where", "random:0", "random:x",
    "ViT-B-32", "RN50", "vit_base_patch16_224.dino", "resnet50", "bfloat16", "auto", "square",
    [], {}, [1, "a", None], {"a": {"b": []}}, ["abs", "abs"], [[[]]],
)  # fmt: skip

OPTIONS = (
    "--dataset", "--profile", "--set", "--json", "--quiet", "--force", "--dry-run", "--to",
    "--weights-dir", "--deep", "--keep-days", "--resolved", "--diff", "--images", "--names",
    "--descriptions", "--split", "--strict-code", "--help", "--nonsense", "-x", "--",
)  # fmt: skip


def command_line(rng: random.Random, dataset: Path, folder: Path) -> list[str]:
    """A command with options and arguments, some of which make sense."""
    words = [rng.choice(COMMANDS)]
    if rng.random() < 0.85:
        words += ["--dataset" if words[0] != "doctor" else "-q", str(_dataset(rng, dataset, folder))]
    if words[0] in ("why", "path", "doctor", "init") and rng.random() < 0.8:
        words.insert(1, rng.choice(("scores", "crops", "embeddings-raw", "x", "", str(dataset))))
    for _ in range(rng.randrange(4)):
        words += _set(rng) if rng.random() < 0.6 else _option(rng)
    if rng.random() < 0.1:
        rng.shuffle(words)
    # Nothing here is to take long, or to delete anything.
    return [word for word in words if word not in ("bench", "--delete")]


def _dataset(rng: random.Random, dataset: Path, folder: Path) -> Path | str:
    if rng.random() < 0.4:
        return dataset
    if rng.random() < 0.2:
        return rng.choice(("demo", "cub", "nonsense", "", ".", "..", "/", str(folder), "/dev/null"))
    config = yaml.safe_load(dataset.read_text())
    for _ in range(rng.randrange(1, 4)):
        section = rng.choice(SECTIONS)
        if rng.random() < 0.2 or not isinstance(config.get(section, {}), dict):
            config[section] = rng.choice(VALUES)
        else:
            config.setdefault(section, {})[rng.choice(FIELDS)] = rng.choice(VALUES)
    text = yaml.safe_dump(config, allow_unicode=True)
    if rng.random() < 0.2:
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(("\t", "{", ":", "\x00", "- ", "%", "")) + text[place + 1 :]
    path = folder / f"fuzz-{rng.randrange(10**9)}.yaml"
    path.write_text(text)
    return path


def _set(rng: random.Random) -> list[str]:
    change = f"{rng.choice(SECTIONS)}.{rng.choice(FIELDS)}={rng.choice(VALUES)}"
    if rng.random() < 0.1:
        change = change.replace(rng.choice(change), "", 1)
    return ["--set", change]


def _option(rng: random.Random) -> list[str]:
    words = [rng.choice(OPTIONS)]
    return words + ([str(rng.choice(VALUES))] if rng.random() < 0.5 else [])


def fault(words: list[str]) -> str:
    """What is wrong with the answer to a command line; empty if nothing is."""
    if any("\0" in word for word in words):
        return ""  # no shell can say it
    try:
        answer = said(*words)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return _wrong(answer)


def _wrong(answer: subprocess.CompletedProcess[str]) -> str:
    if answer.returncode not in (0, 1, 2):
        return f"exit code {answer.returncode}"
    if "Traceback" in answer.stderr:
        return "a traceback"
    last = answer.stderr.strip().splitlines()[-1:] if answer.returncode else []
    if answer.returncode == 2 and not (last and last[0].startswith("abs: ")):
        return f"no line that says why: {answer.stderr!r}"
    return ""
