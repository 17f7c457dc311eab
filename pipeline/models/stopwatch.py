"""Seconds of parts of a computation, measured without waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch

Mark: TypeAlias = "float | torch.cuda.Event"


class Stopwatch:
    """Measures named parts: by the wall clock on a CPU, by events in the stream on CUDA.

    On other devices it measures nothing, since the host runs ahead of them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._parts: list[tuple[str, Mark, Mark]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure the block as a part of that name."""
        start = self._mark()
        yield
        end = self._mark()
        if start is not None and end is not None:
            self._parts.append((name, start, end))

    def take(self) -> dict[str, float]:
        """Return the seconds by part since the last call; on CUDA only after waiting for it."""
        seconds: dict[str, float] = {}
        for name, start, end in self._parts:
            seconds[name] = seconds.get(name, 0.0) + _between(start, end)
        self._parts = []
        return seconds

    def _mark(self) -> Mark | None:
        if self._device.type == "cpu":
            return time.perf_counter()
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def _between(start: Mark, end: Mark) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    assert not isinstance(start, float)
    assert not isinstance(end, float)
    return float(start.elapsed_time(end)) / 1000
