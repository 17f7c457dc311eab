"""Timings of two implementations in turns, and the machine that they are taken on."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], object]
Clock = Callable[[], float]
"""Work that returns its own seconds."""


@dataclass(frozen=True)
class Row:
    """Result of one comparison."""

    what: str
    ours: float
    """Median of this project's times, in seconds."""
    against: float
    """Median of the baseline's times, in seconds."""
    ratio: float
    """Median of against / ours over pairs of timings; above 1, this project is faster."""
    note: str = ""


@torch.inference_mode()
def seconds_of(work: Work) -> float:
    """Return the seconds that a piece of work takes, on a GPU until it has finished there."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def processor_seconds_of(work: Work) -> float:
    """Return the seconds of the processor that a piece of work takes: other programs disturb these
    less than the clock.
    """
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(
    what: str,
    ours: Work,
    against: Work,
    pairs: int,
    note: str = "",
    seconds: Callable[[Work], float] = seconds_of,
) -> Row:
    """Time both alternately; a first pair warms caches and allocators and is not counted."""
    return in_turns(what, lambda: seconds(ours), lambda: seconds(against), pairs, note)


def in_turns(what: str, ours: Clock, against: Clock, pairs: int, note: str = "") -> Row:
    """Compare two that return their own seconds, as `compare` does."""
    times = [(ours(), against()) for _ in range(pairs + 1)][1:]
    ours_median, against_median = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(baseline / own for own, baseline in times)
    return Row(what, ours_median, against_median, ratio, note)


def machine() -> dict[str, Any]:
    """Describe the machine: CPU, number of threads, GPU, version of torch."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    return {"cpu": cpu, "threads": threads, "device": device, "torch": torch.__version__}
