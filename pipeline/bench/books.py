"""Costs of bookkeeping: commands that compute nothing, on a finished store of many images.

The store is made by `pipeline.bench.large`, for this build and for any other one, by its own engine
and store. Then commands are timed, each in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.bench import large
from pipeline.core.errors import AbsError
from pipeline.core.paths import PROJECT

COMMANDS = ("run", "status", "plan", "path index")
"""Commands that are timed. The last one finds the key of the index: a look at the images alone."""


@dataclass(frozen=True)
class Cost:
    """Cost of one command."""

    seconds: float
    megabytes: int
    """Peak memory."""
    looks: int | None
    """System calls that name a file of the store or the dataset; None without strace."""

    def __str__(self) -> str:
        looks = "unknown, without strace" if self.looks is None else f"{self.looks:,}"
        return f"{self.seconds:.2f} s, {self.megabytes:,} MB, file operations: {looks}"


def books(folder: Path, images: int, builds: Sequence[Path] = ()) -> str:
    """Make a store of some images with each build; return what commands take on it, in lines."""
    lines = []
    for number, code in enumerate([PROJECT, *builds]):
        place = folder / str(number)
        _python(code, place, "-P", large.__file__, str(place), str(images))
        lines += [f"{code}: {images:,} images", *(f"  {line}" for line in measured(code, place))]
    return "\n  ".join(["", *lines])


def measured(code: Path, place: Path) -> Iterator[str]:
    """Yield a line for the files of a store, and for each command of a build."""
    for stage, chunks, others in _files(place / "store"):
        yield f"files of {stage}: {chunks:,} chunks and {others:,} others"
    dataset = ["--dataset", str(place / "large.yaml")]
    for name in COMMANDS:
        words = ["-m", "pipeline", *name.split(), *dataset]
        _cost(code, place, words)  # a first one remembers
        costs = sorted((_cost(code, place, words) for _ in range(3)), key=lambda one: one.seconds)
        looks = _looks(code, place, words)
        yield f"abs {name}: {Cost(costs[1].seconds, costs[1].megabytes, looks)}"


def _files(store: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the stage of each artifact of embeddings, with the number of its chunks and of all its
    other files.
    """
    for artifact in sorted(store.glob("*/embeddings-*/*")):
        every = [path for path in artifact.rglob("*") if path.is_file()]
        chunks = sum("c" in path.parts for path in every)
        yield artifact.parent.name, chunks, len(every) - chunks


def _environment(code: Path, place: Path) -> dict[str, str]:
    more = {"PYTHONPATH": str(code), "ABS_ARTIFACTS": str(place / "store")}
    return {**os.environ, **more}


def _python(code: Path, place: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=code, env=_environment(code, place), capture_output=True
    )
    if done.returncode:
        last = done.stderr.decode().strip().splitlines()[-1:]
        raise AbsError(f"{code}: {' '.join(words)} failed: {''.join(last)}")


def _cost(code: Path, place: Path, words: list[str]) -> Cost:
    """Run a command; return its time and peak memory."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=code,
        env=_environment(code, place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        time.sleep(0.005)
    if process.returncode:
        raise AbsError(f"{code}: {' '.join(words)} failed")
    return Cost(time.perf_counter() - start, peak >> 20, None)


def _looks(code: Path, place: Path, words: list[str]) -> int | None:
    """Count the system calls of a command that name a file below a place."""
    if shutil.which("strace") is None:
        return None
    with tempfile.NamedTemporaryFile() as trace:
        subprocess.run(
            ["strace", "-f", "-qq", "-e", "trace=%file", "-o", trace.name, sys.executable, *words],
            cwd=code,
            env=_environment(code, place),
            capture_output=True,
        )
        return sum(f'"{place}' in line for line in Path(trace.name).read_text().splitlines())
