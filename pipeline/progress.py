"""Progress of a run: a live line on a terminal, plain lines elsewhere, silence on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

LINE_EVERY = 10.0
"""Seconds between two plain lines of one stage."""


@dataclass
class Meter:
    """How far a stage is, how fast it goes and how long it will take."""

    stage: str
    total: int
    counts: str
    done: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def rate(self) -> float:
        """Things per second since the first unit began."""
        return self.done / max(time.perf_counter() - self.started, 1e-9)

    def text(self) -> str:
        """`3,840 of 14,400 crops, 210/s, 0:00:50 left`."""
        left = (self.total - self.done) / self.rate if self.done else None
        ahead = "" if left is None or not self.total else f", {clock(left)} left"
        return f"{self.done:,} of {self.total:,} {self.counts}, {self.rate:,.1f}/s{ahead}"


def clock(seconds: float) -> str:
    """`h:mm:ss`, rounded up."""
    whole = int(-(-seconds // 1))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Reporter:
    """Says what happens on standard error, so that standard output stays for results."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line, without markup."""
        self.console.print(Text(text))

    @contextmanager
    def stage(self, name: str, total: int, counts: str) -> Iterator[Callable[[int], None]]:
        """Follow a stage of `total` things; yields a function that takes how many are new."""
        meter = Meter(name, total, counts)
        if not self.console.is_terminal:
            yield self._lines(meter)
            return
        columns = TextColumn("{task.description}"), BarColumn(bar_width=30), _Rate(meter)
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(name, total=total)

            def advance(new: int) -> None:
                meter.done += new
                bar.update(task, completed=meter.done)

            yield advance

    def _lines(self, meter: Meter) -> Callable[[int], None]:
        last = meter.started

        def advance(new: int) -> None:
            nonlocal last
            meter.done += new
            if time.perf_counter() - last >= LINE_EVERY and meter.done < meter.total:
                last = time.perf_counter()
                self.say(f"{meter.stage}: {meter.text()}")

        return advance


class _Rate(ProgressColumn):
    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def render(self, task: Task) -> Text:
        return Text(self._meter.text())
