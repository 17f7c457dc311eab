"""Run random command lines and settings, and check exit code and messages."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from pipeline.cli import app
from pipeline.core.section import flatten
from pipeline.settings import load

COMMANDS = (
    "run", "plan", "status", "why", "path", "verify", "gc", "config", "doctor", "init", "index",
    "descriptions", "attention", "crops", "embeddings", "scores", "metrics", "nonsense",
)  # fmt: skip

FIELDS = [name for name, _ in flatten(load("demo").model_dump(mode="json"), "")]
"""Names of all settings; invalid names are added below."""
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
"""Options to try with any command, besides its own."""


def run_abs(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `abs` in this process; return its exit code and output."""
    out, err = io.StringIO(), io.StringIO()
    command = ["abs", *map(str, words)]
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", command),
        patch.dict(os.environ, environment),
    ):
        code = app.run_app()
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def command_line(rng: random.Random, dataset: Path, folder: Path) -> list[str]:
    """Draw a command with options and arguments, most of them valid for the command.

    `dataset` is a valid dataset YAML; changed copies of it are written into `folder`.
    """
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
    # Without `bench`, which takes long, and `--delete`, which deletes artifacts.
    return [word for word in words if word not in ("bench", "--delete")]


def _options(command: str) -> list[str]:
    params = app.import_command(command).params if command in app.COMMANDS else []
    return [option for param in params for option in param.opts if option.startswith("--")]


def _dataset(rng: random.Random, dataset: Path, folder: Path) -> Path | str:
    """Choose the dataset itself, a name or path, or a copy with changed settings or syntax."""
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
        offset = rng.randrange(len(text))
        inserted = rng.choice(("\t", "{", ":", "\x00", "- ", "%", ""))
        text = text[:offset] + inserted + text[offset + 1 :]
    path = folder / f"fuzz-{rng.randrange(10**9)}.yaml"
    path.write_text(text)
    return path


def _set(rng: random.Random) -> list[str]:
    value = rng.choice(VALUES)
    override = f"{rng.choice(FIELDS)}={value if isinstance(value, str) else json.dumps(value)}"
    if rng.random() < 0.05:
        override = override.replace(rng.choice(override), "", 1)
    return ["--set", override]


def _option(rng: random.Random, own: list[str]) -> list[str]:
    words = [rng.choice(own if own and rng.random() < 0.8 else OPTIONS)]
    return words + ([str(rng.choice(VALUES))] if rng.random() < 0.4 else [])


def fault(words: list[str]) -> str:
    """Run a command line and describe what is wrong with the result, "" if nothing is."""
    if any("\0" in word for word in words):
        return ""  # an argument of a process cannot contain it
    try:
        result = run_abs(*words)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return _fault_of(result)


def _fault_of(result: subprocess.CompletedProcess[str]) -> str:
    if result.returncode not in (0, 1, 2):
        return f"exit code {result.returncode}"
    if "Traceback" in result.stderr:
        return "traceback on stderr"
    lines = [line for line in result.stderr.rstrip().splitlines() if not line.startswith("  ")]
    if result.returncode == 2 and not (lines and lines[-1].startswith("abs: ")):
        return f"exit code 2 without a last line `abs: ...`: {result.stderr!r}"
    return ""
