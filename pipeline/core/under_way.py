"""Progress within units: code that works on a unit reports it, code that shows it listens.

Nothing is handed down for it: an engine listens around a step of a unit (`heard`), and the loops
over images, crops or texts inside tell (`tell`, `each`), in the same thread. Without a listener,
telling does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

Listener = Callable[[float], None]
"""Function of the share of a step that is done, from 0 to 1."""

Item = TypeVar("Item")

LOAD, READ, COMPUTE = "load", "read", "compute"
"""Steps of a unit that are told of; only computing counts items."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Listen to the progress that the block reports, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(done: float, of: float) -> None:
    """Tell that `done` of `of` items are done."""
    listener = _listener.get()
    if listener and of:
        listener(done / of)


def each(items: Iterable[Item], of: int) -> Iterator[Item]:
    """Yield `of` items, and tell of each when the next one is asked for."""
    for number, item in enumerate(items):
        yield item
        tell(number + 1, of)


@contextmanager
def stretch(start: float, end: float) -> Iterator[None]:
    """Map progress of the block to the stretch from `start` to `end`, both shares of the whole."""
    outer = _listener.get()
    if outer is None:
        yield
        return
    with heard(lambda share: outer(start + share * (end - start))):
        yield
    outer(end)


@dataclass
class _Unit:
    size: int
    step: str = ""
    share: float = 0.0


class UnderWay:
    """Units under way, and how far each is; safe in several threads.

    What is told of a unit that has not begun or has ended is ignored: messages may come late.
    """

    def __init__(self, model: str = "") -> None:
        self.model = model
        """Name of the model that workers load with their first unit."""
        self._units: dict[str, _Unit] = {}
        self._lock = threading.Lock()
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None

    def begin(self, unit: str, size: int) -> None:
        """Take note of a unit of `size` items."""
        with self._lock:
            self._units[unit] = _Unit(size)

    def tell(self, unit: str, step: str, share: float) -> None:
        """Take note of the share of a step that is done."""
        with self._lock:
            if unit not in self._units:
                return
            self._units[unit] = _Unit(self._units[unit].size, step, min(max(share, 0.0), 1.0))
            if step == COMPUTE:
                self._last = time.perf_counter(), self._items()
                self._first = self._first or self._last

    def end(self, unit: str) -> None:
        """Forget a unit that is finished, has failed, or is done by another process."""
        with self._lock:
            self._units.pop(unit, None)

    @property
    def items(self) -> float:
        """Items that are computed, of units under way."""
        with self._lock:
            return self._items()

    @property
    def last(self) -> float:
        """Time at which items were last told of, as of `time.perf_counter`; 0 before."""
        return self._last[0] if self._last else 0.0

    @property
    def rate(self) -> float | None:
        """Items per second since items were first told of; None if that is not known."""
        with self._lock:
            if not self._first or not self._last:
                return None
            seconds, items = (b - a for a, b in zip(self._first, self._last, strict=True))
            return items / seconds if seconds > 0 and items > 0 else None

    @property
    def doing(self) -> str:
        """`reading 30%` or `loading ViT-B-32` while no unit is computed, else empty."""
        with self._lock:
            shares: dict[str, list[float]] = {LOAD: [], READ: [], COMPUTE: []}
            for unit in self._units.values():
                if unit.step:
                    shares[unit.step].append(unit.share)
        if any(share < 1 for share in shares[COMPUTE]):
            return ""
        if shares[READ]:
            return f"reading {sum(shares[READ]) / len(shares[READ]):.0%}"
        return f"loading {self.model}".strip() if shares[LOAD] else ""

    def _items(self) -> float:
        return sum(unit.size * unit.share for unit in self._units.values() if unit.step == COMPUTE)
