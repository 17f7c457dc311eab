"""The engine without a cluster: this process, reading ahead and writing behind, a thread each."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.engine import Done, Engine, Failed, Job, Session
from pipeline.flow import Result, ahead
from pipeline.stage import Unit
from pipeline.work import Seconds, Work, told

if TYPE_CHECKING:
    from pipeline.stage import Output

    Computed = tuple[Unit, dict[str, Output], Seconds]

AHEAD = 1
"""Units read before their turn, and as many written behind it."""


class Inline(Engine):
    """Everything in this process."""

    @contextmanager
    def open(self, job: Job) -> Iterator[Session]:
        """Load the stage here."""
        start = time.perf_counter()
        with Work.on(job.stage, job.store) as work:
            session = Pass(work)
            session.count({"load": time.perf_counter() - start})
            yield session


class Pass(Session):
    """The units of a stage on their way through read, compute and write."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def turn(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Each that is free, in order."""
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            computed = self._computed(ahead(reader, self.work.read, self._free(todo), AHEAD))
            try:
                for (unit, _, _), written in ahead(writer, self._write, computed, AHEAD):
                    failed = len(self.failed)
                    with self._errors(unit):
                        self._wait(written)
                    if len(self.failed) == failed:
                        yield Done(unit)
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

    def _free(self, todo: list[Unit]) -> Iterator[Unit]:
        """Those of `todo` that no other process is at, once they are claimed."""
        return filter(self.work.take, todo)

    def _computed(
        self, units: Iterator[tuple[Unit, Future[tuple[Any, Seconds]]]]
    ) -> Iterator[Computed]:
        for unit, future in units:
            done = None
            with self._errors(unit):
                inputs, seconds = self._wait(future)
                done = self.work.compute(unit, inputs, seconds), seconds
            if done:
                self.any_done = True
                yield unit, *done
            if self.hopeless:
                return

    def _write(self, item: Computed) -> None:
        self.work.write(*item)
        self.count(item[-1])

    def _wait(self, future: Future[Result]) -> Result:
        start = time.perf_counter()
        result = future.result()
        self.count({"wait": time.perf_counter() - start})
        return result

    def _errors(self, unit: Unit) -> Any:
        return self.work.errors(unit, lambda e: self.failed.append(Failed(unit, told(e))))
