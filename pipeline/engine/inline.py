"""Engine of one process: a thread reads the next unit, others write the previous ones."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import one_line
from pipeline.core.threads import Result, prefetch
from pipeline.engine.base import Done, Engine, Failed, Job, Session
from pipeline.engine.work import Seconds, Spent, UnitWork
from pipeline.store.units import Unit

if TYPE_CHECKING:
    from pipeline.store.units import Output

    Computed = tuple[Unit, dict[str, Output], Spent]

PREFETCH = 1
"""Number of units read ahead of the computation."""
WRITERS = 3
"""Number of units that are written at once, as a disk takes milliseconds to keep what it is given.
Outputs are small beside the inputs of a unit."""


class Inline(Engine):
    """Computes every unit in this process."""

    @contextmanager
    def open(self, job: Job) -> Iterator[Session]:
        """Load the stage in this process."""
        start = time.perf_counter()
        with UnitWork.load(job.stage, job.store, self.sharing) as work:
            session = InlineSession(work)
            session.add_seconds({"load": time.perf_counter() - start})
            yield session


class InlineSession(Session):
    """A loaded stage, whose units pass through reading, computing and writing."""

    def __init__(self, work: UnitWork) -> None:
        super().__init__()
        self.work = work

    def compute(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Compute the unclaimed units of `todo` in order."""
        with (
            ThreadPoolExecutor(1, "read") as reader,
            ThreadPoolExecutor(WRITERS, "write") as writer,
        ):
            reads = prefetch(reader, self._read, self._claimed(todo), PREFETCH)
            computed = self._computed(reads)
            try:
                for (unit, _, _), written in prefetch(writer, self._write, computed, WRITERS):
                    failures = len(self.failed)
                    with self._errors(unit):
                        seconds = self._wait(written)
                        self.add_seconds(seconds)
                    if len(self.failed) == failures:
                        self.under_way.end(unit.name)
                        yield Done(unit)
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

    def _claimed(self, todo: list[Unit]) -> Iterator[Unit]:
        """Yield the units of `todo` that this process could claim."""
        return filter(self.work.claim, todo)

    def _computed(
        self, units: Iterator[tuple[Unit, Future[tuple[Any, Spent]]]]
    ) -> Iterator[Computed]:
        for unit, future in units:
            result = None
            with self._errors(unit):
                inputs, spent = self._wait(future)
                result = self.work.compute(unit, inputs, spent, self.under_way.tell), spent
            if result:
                self.any_computed = True
                yield unit, *result
            if self.should_abort:
                return

    def _read(self, unit: Unit) -> tuple[Any, Spent]:
        self.under_way.begin(unit.name, unit.size)
        return self.work.read(unit, self.under_way.tell)

    def _write(self, item: Computed) -> Seconds:
        self.work.write(*item)
        return item[-1].steps

    def _wait(self, future: Future[Result]) -> Result:
        start = time.perf_counter()
        result = future.result()
        self.add_seconds({"wait": time.perf_counter() - start})
        return result

    def _errors(self, unit: Unit) -> Any:
        return self.work.errors(unit, partial(self._fail, unit))

    def _fail(self, unit: Unit, error: Exception) -> None:
        self.under_way.end(unit.name)
        self.failed.append(Failed(unit, one_line(error)))
