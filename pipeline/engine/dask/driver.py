"""Engine of many processes: Dask tasks of one unit or some quick ones, on local or remote workers.

The client process plans, submits units and receives small results; arrays pass neither through it
nor through the scheduler. Claims keep workers from computing a unit twice, also across runs.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.core.code import code_of
from pipeline.core.errors import AbsError
from pipeline.core.under_way import UnderWay
from pipeline.engine.base import Done, Engine, Failed, Job, Part, Rebuild, Session
from pipeline.store.claims import living
from pipeline.store.units import Unit
from pipeline.store.writer import ArtifactWriter

if TYPE_CHECKING:
    from pipeline.core.runtime import Runtime
    from pipeline.engine.dask.client import Connection, PendingTasks
    from pipeline.engine.dask.worker import StageSpec, UnitResult

    Connector = Callable[[Runtime], AbstractContextManager[Connection]]

ATTEMPTS = 3
"""Attempts at a unit before it counts as failed; the last one runs with no other unit pending."""

MAX_PENDING = 1000
"""Tasks submitted and not yet finished: enough for 300 workers, and little memory."""
MAX_UNITS = 64
"""Units of a task, of which many are quick: each is known as finished once the task is done."""


class Cluster(Engine):
    """Computes units on Dask workers: local ones (`workers_here`) or a cluster (`scheduler_at`)."""

    def __init__(
        self,
        connector: Connector,
        rebuild: Rebuild,
        part: Part | None = None,
        workers: int | None = None,
    ) -> None:
        """Take the number of workers that `connector` starts on this machine, if it starts any."""
        super().__init__(part)
        self._connector, self._rebuild, self._workers = connector, rebuild, workers
        self._connection: Connection | None = None
        self._resources, self._run = ExitStack(), uuid.uuid4().hex

    @property
    def sharing(self) -> int | None:
        """Number of workers, if they are all on this machine and no other process takes part."""
        return self._workers if self.part.of == 1 else None

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    @contextmanager
    def open(self, job: Job) -> Iterator[Session]:
        """Open a stage; the first one connects. Workers load the stage with their first unit."""
        connection = self._connection
        if connection is None:
            connector = self._connector(job.settings.runtime)
            connection = self._connection = self._resources.enter_context(connector)
        try:
            spec = spec_of(job, self._run, self._rebuild)
            yield DaskSession(connection, job, replace(spec, sharing=self._by_host(connection)))
        finally:
            connection.release(self._run)

    def _by_host(self, connection: Connection) -> dict[str, int]:
        """Return the number of workers by host, as far as known; of any host by an empty name."""
        if self._workers is None:
            return connection.workers_by_host()
        return {"": self.sharing} if self.sharing else {}


class DaskSession(Session):
    """Submits the units of a stage to Dask and retries failures."""

    def __init__(self, connection: Connection, job: Job, spec: StageSpec) -> None:
        super().__init__()
        self._connection, self._job, self._spec = connection, job, spec
        self.under_way = UnderWay(job.stage.model_name)
        self._queue: deque[Unit] = deque()
        self._last_attempts: deque[Unit] = deque()
        """Units with one attempt left, submitted only while no other unit is pending."""
        self._failed_on: dict[str, list[str]] = {}
        """Addresses of the workers that each unit failed on, by the unit's name. Units that are in
        here, perhaps without an address, are tasks of their own."""
        self._elapsed: float | None = None
        """Seconds of a unit, of the last that were computed."""

    def compute(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Compute the unclaimed units of `todo`; yield them in the order they finish."""
        from pipeline.engine.dask.client import PendingTasks
        from pipeline.engine.dask.under_way import listener

        claimed = {claim.unit for claim in living(self._job.artifact.path / "claims")}
        self._queue.extend(unit for unit in todo if unit.name not in claimed)
        stage = self._job.stage
        prefix = f"{stage.name}-{stage.key}-{uuid.uuid4().hex[:8]}"
        pending = PendingTasks(self._connection, prefix)
        self._connection.hear_units(listener(self._spec.run, stage.name, self.under_way.tell))
        try:
            while self._submit(pending):
                for units, results in pending.next_results():
                    for unit, result in self._by_unit(units, results):
                        yield from self._take(unit, result)
                if self.should_abort:
                    return
        finally:
            pending.cancel()

    def _submit(self, pending: PendingTasks) -> bool:
        """Submit as many tasks as allowed; return whether any is pending afterwards."""
        most = MAX_PENDING if self._elapsed else max(1, self._connection.threads())
        while self._queue and len(pending) < most:
            self._submit_one(pending, self._next_units())
        if self._last_attempts and not len(pending):
            self._submit_one(pending, [self._last_attempts.popleft()])
        return len(pending) > 0

    def _submit_one(self, pending: PendingTasks, units: list[Unit]) -> None:
        """Submit a task, to a worker that its first unit has not failed on if there is one."""
        for unit in units:
            self.under_way.begin(unit.name, unit.size)
        pending.submit(self._spec, units, avoid=self._failed_on.get(units[0].name, []))

    def _next_units(self) -> list[Unit]:
        """Take the units of a task from the queue: one, or quick ones of AT_ONCE / 2 seconds."""
        from pipeline.engine.dask.worker import AT_ONCE

        units = [self._queue.popleft()]
        if units[0].name in self._failed_on or not self._elapsed:
            return units
        most = min(MAX_UNITS, AT_ONCE / 2 / self._elapsed)
        while len(units) < most and self._queue and self._queue[0].name not in self._failed_on:
            units.append(self._queue.popleft())
        return units

    def _by_unit(
        self, units: list[Unit], results: list[UnitResult] | UnitResult
    ) -> list[tuple[Unit, UnitResult]]:
        """Give each unit of a task its result; queue those again that have none.

        Which unit made a task of several fail as a whole is seen when they are tasks of their own.
        """
        if not isinstance(results, list):
            if len(units) == 1:
                return [(units[0], results)]
            self._failed_on.update({unit.name: [] for unit in units})
            results = []
        self._queue.extendleft(reversed(units[len(results) :]))
        return list(zip(units, results, strict=False))

    def _take(self, unit: Unit, result: UnitResult) -> Iterator[Done]:
        """Record the result of a unit; yield it if it is finished."""
        from pipeline.engine.dask.worker import State

        self.add_seconds(result.seconds)
        self.under_way.end(unit.name)
        self._elapsed = result.elapsed or self._elapsed
        if result.state == State.STOP:
            raise _error_of(result)
        if result.state == State.DONE:
            self.any_computed = True
            yield Done(unit, result.worker)
        if result.state == State.FAILED:
            self._retry_or_fail(unit, result)

    def _retry_or_fail(self, unit: Unit, result: UnitResult) -> None:
        """Record a failure; queue the unit again if it has an attempt left."""
        if result.traceback:
            ArtifactWriter(self._job.artifact).fail(unit, result.traceback)
        workers = self._failed_on.setdefault(unit.name, [])
        workers.append(result.worker)
        if len(workers) == ATTEMPTS:
            self.failed.append(Failed(unit, result.error))
        else:
            last = len(workers) == ATTEMPTS - 1
            (self._last_attempts if last else self._queue).append(unit)


def _error_of(result: UnitResult) -> AbsError:
    error = AbsError(f"{result.error} (worker {result.worker})")
    error.exit_code = result.exit_code
    return error


def spec_of(job: Job, run: str, rebuild: Rebuild) -> StageSpec:
    """Return the specification from which workers rebuild the stage of a job.

    The number of threads is that of this process, because another number may round differently;
    paths are made absolute.
    """
    import torch

    from pipeline.engine.dask.worker import StageSpec

    s = job.settings
    threads = s.runtime.threads or torch.get_num_threads()
    runtime = s.runtime.model_copy(update={"threads": threads})
    portable = s.model_copy(update={"runtime": runtime, "paths": s.paths.absolute()})
    stage = job.stage
    return StageSpec(
        settings=portable.model_dump_json(),
        threads=threads,
        options=job.store.options,
        stage=stage.name,
        key=stage.key,
        code=code_of(stage),
        run=run,
        rebuild=rebuild,
    )
