"""Progress of a run: a live line on a terminal, plain lines elsewhere, silence on request.

A log file receives the plain lines whatever is shown.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import IO, Protocol

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task
from rich.text import Text

from pipeline.core.errors import ConfigError
from pipeline.core.under_way import UnderWay
from pipeline.core.words import counted

LINE_EVERY = 10.0
"""Seconds between two plain lines of one stage."""

EACH = 4
"""Number of workers whose rates are listed; of more only the slowest and the fastest."""

WIDTH = 76
"""Columns of the live line, without its spinner: it fits 80."""


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
    place: str = ""
    """Place among the stages of the run, such as `3/12`."""
    foreseen: float | None = None
    """Expected seconds of the stage, for the time left before the first unit is done."""
    later: float | None = None
    """Expected seconds of the stages after it."""
    under_way: UnderWay = field(default_factory=UnderWay)
    """Units under way."""
    done: int = 0
    """Items of finished units."""
    steps: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """Items finished by each worker."""
    started: float = field(default_factory=time.perf_counter)
    last: float = 0.0
    """Time at which the last unit was finished."""

    def add(self, new: int, who: str = "") -> None:
        """Count one finished unit of `new` items."""
        self.done += new
        self.steps += 1
        self.last = time.perf_counter()
        if who:
            self.by[who] += new

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return time.perf_counter() - self.started

    @property
    def made(self) -> int:
        """Items that are done, those of units under way among them."""
        return min(self.done + int(self.under_way.items), self.total)

    @property
    def rate(self) -> float:
        """Items per second since the stage began."""
        return self.made / max(self.seconds, 1e-9)

    @property
    def left(self) -> float | None:
        """Expected seconds to the end of the stage; None if nothing is known."""
        made, last = self.done + self.under_way.items, max(self.last, self.under_way.last)
        if self.done and self.total:
            until = max(last - self.started, 1e-9)  # when items were last done
            return (self.total - made) * until / made - (self.seconds - until)
        if rate := self.under_way.rate:  # of the first unit, without what it had to wait for
            return (self.total - made) / rate - (time.perf_counter() - last)
        return None if self.foreseen is None else self.foreseen - self.seconds

    def text(self) -> str:
        """`3 of 8 units, 384 of 1,024 crops, 210.0/s (2 workers: 104.0, 106.0), 0:00:04 left`."""
        known = self.left if self.made and self.total else None
        left = "" if known is None else f", {clock(max(known, 0.0))} left"
        units = f"{self.steps:,} of {counted(self.units, 'units')}, " if self.units else ""
        made = f"{self.made:,} of {counted(self.total, self.counts)}"
        return f"{units}{made}, {self.rate:,.1f}/s{self._each()}{left}"

    def line(self, width: int = WIDTH) -> str:
        """`3/12 embeddings-raw 384/1,024 crops 0:00:12, 0:00:04 left (run 0:01:10)`.

        Items of units under way count. What does not fit is left out.
        """
        left = None if self.left is None else max(self.left, 0.0)
        whole = None if left is None or self.later is None else left + self.later
        parts = [
            f"{self.place} {self.stage}".strip(),
            f" {self.made:,}/{self.total:,} {self.counts}".rstrip() if self.total > 1 else "",
            f" {doing}" if (doing := self.under_way.doing) else "",
            f" {clock(self.seconds)}",
            f", {clock(left)} left" if left is not None else "",
            f" (run {clock(whole)})" if whole is not None else "",
            f", {self.rate:,.1f}/s" if self.made else "",
        ]
        text = ""
        for part in parts:
            text += part if len(text) + len(part) <= width else ""
        return text

    def _each(self) -> str:
        """Format the rate of each worker."""
        if len(self.by) < 2:
            return ""
        rates = [self.rate * self.by[who] / self.done for who in sorted(self.by)]
        text = ", ".join(f"{rate:,.1f}" for rate in rates)
        if len(rates) > EACH:
            text = f"{min(rates):,.1f} to {max(rates):,.1f} each"
        return f" ({counted(len(rates), 'workers')}: {text})"


def clock(seconds: float) -> str:
    """`h:mm:ss`, rounded up."""
    whole = int(-(-seconds // 1))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@cache
def _console(quiet: bool) -> Console:
    """Return the console shared by all reporters, so that lines do not break a progress bar."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


_logs: list[IO[str]] = []
"""Open log files."""


@contextmanager
def logged(path: str | None) -> Iterator[None]:
    """Append all lines to a file, with the time of each; ConfigError if it cannot be written."""
    if path is None:
        yield
        return
    try:
        file = Path(path).expanduser().open("a", encoding="utf-8", buffering=1)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--log-file {path}: cannot be written ({reason})") from None
    with file:
        _logs.append(file)
        try:
            yield
        finally:
            _logs.remove(file)


def _log(text: str) -> None:
    for file in _logs:
        file.write(f"{datetime.now().isoformat(' ', 'seconds')} {text}\n")


class Reporter:
    """Prints progress on standard error; standard output is for results."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = _console(quiet)
        self._names: list[str] = []
        self._seconds: Mapping[str, float | None] = {}

    def say(self, text: str) -> None:
        """Print one line, without markup."""
        self.console.print(Text(text))
        _log(text)

    def expect(self, names: Sequence[str], seconds: Mapping[str, float | None]) -> None:
        """Take note of the stages of a run, in order, and of the seconds expected of each."""
        self._names, self._seconds = list(names), seconds

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show what is under way, with a moving clock on a terminal."""
        with self._shown(Meter(text, 0, "")):
            yield

    @contextmanager
    def stage(
        self, name: str, total: int, counts: str, units: int = 0, under_way: UnderWay | None = None
    ) -> Iterator[Advance]:
        """Show the progress of a stage of `total` items, in `units` units if they are counted.

        under_way: Units under way, whose items count as they are done.
        """
        meter = self._meter(name, total, counts, units)
        meter.under_way = under_way or meter.under_way
        with self._shown(meter), self._lines(meter):
            yield meter.add

    def _meter(self, name: str, total: int, counts: str, units: int) -> Meter:
        if name not in self._names:
            return Meter(name, total, counts, units)
        number = self._names.index(name)
        after = [self._seconds.get(other) for other in self._names[number + 1 :]]
        known = [seconds for seconds in after if seconds is not None]
        later = sum(known) if len(known) == len(after) else None
        place = f"{number + 1}/{len(self._names)}"
        return Meter(name, total, counts, units, place, self._seconds.get(name), later)

    @contextmanager
    def _shown(self, meter: Meter) -> Iterator[None]:
        """Show a live line that moves several times a second, if this is a terminal."""
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        columns = SpinnerColumn(), _Line(meter, min(WIDTH, self.console.width - 3))
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as bar:
            bar.add_task(meter.stage, total=None)
            yield

    @contextmanager
    def _lines(self, meter: Meter) -> Iterator[None]:
        """Print a plain line every LINE_EVERY seconds, also within a unit, if nothing is live."""
        plain = not self.console.is_terminal
        if not (plain or _logs):
            yield
            return
        end = threading.Event()

        def tell() -> None:
            while not end.wait(LINE_EVERY):
                text = f"{meter.place} {meter.stage}: {meter.text()}".strip()
                self.console.print(Text(text)) if plain else None
                _log(text)

        thread = threading.Thread(target=tell, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


class _Line(ProgressColumn):
    max_refresh = None

    def __init__(self, meter: Meter, width: int) -> None:
        super().__init__()
        self._meter, self._width = meter, width

    def render(self, task: Task) -> Text:
        return Text(self._meter.line(self._width), no_wrap=True, overflow="crop")
