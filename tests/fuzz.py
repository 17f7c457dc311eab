"""Command lines and settings that nobody would think of."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import typer
import yaml

from pipeline.cli import app
from pipeline.config import leaves
from pipeline.settings import load
from tests.conftest import said

COMMANDS = (
    "run", "plan", "status", "why", "path", "verify", "gc", "config", "doctor", "init", "index",
    "descriptions", "attention", "crops", "embeddings", "scores", "metrics", "nonsense",
)  # fmt: skip

FIELDS = [name for name, _ in leaves(load("demo").model_dump(mode="json"), "")]
"""Every setting, and beside them what is none."""
FIELDS += ["nonsense", "", ".", "crops", "crops.", ".k", "methods.wca.nonsense", "methods.x.n"]

VALUES: tuple[Any, ...] = (
    0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 0.5, -0.0, 1e308, 1e-320, "nan", ".inf", "-.inf",
    True, False, None, "", " ", "x", "é", "☃", "\u202e", "\x7f", "a" * 5000, "../../etc/passwd",
    "/dev/null", "/dev/full", "~nobody/x", "~", "{}", "[]", "[1, 2", "{a: ", "&a [*a]",
    "!!python/object:os.system x", "2026-01-01", "0x1f", "1_000", "yes", "abs", "all", "drawn",
    "official", "cuda:7", "meta", "local-dir:/nowhere", "hf-hub:no/where", "random:0", "random:x",
    "ViT-B-32", "RN50", "vit_base_patch16_224.dino", "resnet50", "bfloat16", "auto", "square",
    [], {}, [1, "a", None], {"a": {"b": []}}, ["abs", "abs"], [[[]]],
)  # fmt: skip

OPTIONS = ("--nonsense", "-x", "--", "--help", "--set", "--dataset")
"""For any command; most have these beside their own."""


def command_line(rng: random.Random, dataset: Path, folder: Path) -> list[str]:
    """A command with options and arguments, most of which it knows."""
    command = rng.choice(COMMANDS)
    words, own = [command], _options(command)
    if command in ("why", "path"):
        words.append(rng.choice(("scores", "crops", "embeddings-raw", "metrics", "x", "")))
    if command in ("doctor", "init"):
        words.append(str(_dataset(rng, dataset, folder)) if command == "doctor" else "new")
    if "--dataset" in own and rng.random() < 0.95:
        words += ["--dataset", str(_dataset(rng, dataset, folder))]
    if command == "init":
        words += ["--images", str(rng.choice((dataset.parent, dataset, *VALUES)))]
    if "--set" in own:
        words += [word for _ in range(rng.randrange(3)) for word in _set(rng)]
    for _ in range(rng.choice((0, 0, 1, 2))):
        words += _option(rng, own)
    if rng.random() < 0.05:
        rng.shuffle(words)
    # Nothing here is to take long, or to delete anything.
    return [word for word in words if word not in ("bench", "--delete")]


def _options(command: str) -> list[str]:
    found = typer.main.get_command(app)
    inner = getattr(found, "commands", {}).get(command)
    params = inner.params if inner else []
    return [option for param in params for option in param.opts if option.startswith("--")]


def _dataset(rng: random.Random, dataset: Path, folder: Path) -> Path | str:
    if rng.random() < 0.5:
        return dataset
    if rng.random() < 0.2:
        return rng.choice(("demo", "cub", "nonsense", "", ".", "..", "/", str(folder), "/dev/null"))
    config = yaml.safe_load(dataset.read_text())
    for _ in range(rng.randrange(1, 3)):
        *parts, last = rng.choice(FIELDS).split(".")
        section = config
        for part in parts:
            inner = section.setdefault(part, {})
            section = inner if isinstance(inner, dict) else section
        section[last] = rng.choice(VALUES)
    text = yaml.safe_dump(config, allow_unicode=True)
    if rng.random() < 0.1:
        place = rng.randrange(len(text))
        text = (
            text[:place] + rng.choice(("\t", "{", ":", "\x00", "- ", "%", "")) + text[place + 1 :]
        )
    path = folder / f"fuzz-{rng.randrange(10**9)}.yaml"
    path.write_text(text)
    return path


def _set(rng: random.Random) -> list[str]:
    value = rng.choice(VALUES)
    change = f"{rng.choice(FIELDS)}={value if isinstance(value, str) else json.dumps(value)}"
    if rng.random() < 0.05:
        change = change.replace(rng.choice(change), "", 1)
    return ["--set", change]


def _option(rng: random.Random, own: list[str]) -> list[str]:
    words = [rng.choice(own if own and rng.random() < 0.8 else OPTIONS)]
    return words + ([str(rng.choice(VALUES))] if rng.random() < 0.4 else [])


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
