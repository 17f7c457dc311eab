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
"""Workers whose rates are told one by one; of more, the slowest and the fastest."""


class Advance(Protocol):
    """Takes how many things are new, and which of several workers made them."""

    def __call__(self, new: int, who: str = "") -> None:
        """Of a unit, where units are counted."""


@dataclass
class Meter:
    """How far a stage is, how fast it goes and how long it will take."""

    stage: str
    total: int
    counts: str
    units: int = 0
    """In how many steps; 0 if it does not matter."""
    done: int = 0
    steps: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """What each of several workers made."""
    started: float = field(default_factory=time.perf_counter)

    def add(self, new: int, who: str = "") -> None:
        """A step is done."""
        self.done += new
        self.steps += 1
        if who:
            self.by[who] += new

    @property
    def rate(self) -> float:
        """Things per second since the first unit began."""
        return self.done / max(time.perf_counter() - self.started, 1e-9)

    def text(self) -> str:
        """`3 of 8 units, 384 of 1,024 crops, 210.0/s (2 workers: 104.0, 106.0), 0:00:04 left`."""
        known = self.done and self.total
        left = f", {clock((self.total - self.done) / self.rate)} left" if known else ""
        units = f"{self.steps:,} of {self.units:,} units, " if self.units else ""
        made = f"{self.done:,} of {self.total:,} {self.counts}"
        return f"{units}{made}, {self.rate:,.1f}/s{self._each()}{left}"

    def _each(self) -> str:
        """The rate of every worker."""
        if len(self.by) < 2:
            return ""
        rates = [self.rate * self.by[who] / self.done for who in sorted(self.by)]
        told = ", ".join(f"{rate:,.1f}" for rate in rates)
        if len(rates) > EACH:
            told = f"{min(rates):,.1f} to {max(rates):,.1f} each"
        return f" ({len(rates)} workers: {told})"


def clock(seconds: float) -> str:
    """`h:mm:ss`, rounded up."""
    whole = int(-(-seconds // 1))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@cache
def _console(quiet: bool) -> Console:
    """One for all reporters, so that lines of one do not fall into the bar of another."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


class Reporter:
    """Says what happens on standard error, so that standard output stays for results."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = _console(quiet)

    def say(self, text: str) -> None:
        """One line, without markup."""
        self.console.print(Text(text))

    @contextmanager
    def stage(self, name: str, total: int, counts: str, units: int = 0) -> Iterator[Advance]:
        """Follow a stage of `total` things, in so many units if they matter."""
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
