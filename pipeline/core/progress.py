"""Progress of a run: a live line on a terminal, plain lines elsewhere, silence on request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

LINE_EVERY = 10.0
"""Seconds between two plain lines of one stage."""

EACH = 4
"""Number of workers whose rates are listed; of more only the slowest and the fastest."""


class Advance(Protocol):
    """Callback that reports finished items, and which of several workers finished them."""

    def __call__(self, new: int, who: str = "") -> None:
        """Report `new` items; one call per finished unit where units are counted."""


@dataclass
class Meter:
    """Progress of one stage: items done, rate and time left."""

    stage: str
    total: int
    counts: str
    units: int = 0
    """Number of units; 0 if units are not counted."""
    done: int = 0
    steps: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """Items finished by each worker."""
    started: float = field(default_factory=time.perf_counter)

    def add(self, new: int, who: str = "") -> None:
        """Count one finished unit of `new` items."""
        self.done += new
        self.steps += 1
        if who:
            self.by[who] += new

    @property
    def rate(self) -> float:
        """Items per second since the stage began."""
        return self.done / max(time.perf_counter() - self.started, 1e-9)

    def text(self) -> str:
        """`3 of 8 units, 384 of 1,024 crops, 210.0/s (2 workers: 104.0, 106.0), 0:00:04 left`."""
        known = self.done and self.total
        left = f", {clock((self.total - self.done) / self.rate)} left" if known else ""
        units = f"{self.steps:,} of {self.units:,} units, " if self.units else ""
        made = f"{self.done:,} of {self.total:,} {self.counts}"
        return f"{units}{made}, {self.rate:,.1f}/s{self._each()}{left}"

    def _each(self) -> str:
        """Format the rate of each worker."""
        if len(self.by) < 2:
            return ""
        rates = [self.rate * self.by[who] / self.done for who in sorted(self.by)]
        text = ", ".join(f"{rate:,.1f}" for rate in rates)
        if len(rates) > EACH:
            text = f"{min(rates):,.1f} to {max(rates):,.1f} each"
        return f" ({len(rates)} workers: {text})"


def clock(seconds: float) -> str:
    """`h:mm:ss`, rounded up."""
    whole = int(-(-seconds // 1))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@cache
def _console(quiet: bool) -> Console:
    """Return the console shared by all reporters, so that lines do not break a progress bar."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


class Reporter:
    """Prints progress on standard error; standard output is for results."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = _console(quiet)

    def say(self, text: str) -> None:
        """Print one line, without markup."""
        self.console.print(Text(text))

    @contextmanager
    def stage(self, name: str, total: int, counts: str, units: int = 0) -> Iterator[Advance]:
        """Show the progress of a stage of `total` items, in `units` units if they are counted."""
        meter = Meter(name, total, counts, units)
        if not self.console.is_terminal:
            yield self._lines(meter)
            return
        columns = TextColumn("{task.description}"), BarColumn(bar_width=30), _Rate(meter)
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(name, total=total)

            def advance(new: int, who: str = "") -> None:
                meter.add(new, who)
                bar.update(task, completed=meter.done)

            yield advance

    def _lines(self, meter: Meter) -> Advance:
        last = meter.started

        def advance(new: int, who: str = "") -> None:
            nonlocal last
            meter.add(new, who)
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
