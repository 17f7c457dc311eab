"""Engine of many processes: one Dask future per unit, computed by local or remote workers.

The client process plans, submits units and receives small results; arrays pass neither through it
nor through the scheduler. Claims keep workers from computing a unit twice, also across runs.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from pipeline.core.code import code_of
from pipeline.core.errors import AbsError
from pipeline.core.parts import UnderWay
from pipeline.engine.base import Done, Engine, Failed, Job, Part, Rebuild, Session
from pipeline.store.claims import living
from pipeline.store.units import Unit

if TYPE_CHECKING:
    from pipeline.core.runtime import Runtime
    from pipeline.engine.dask.client import Connection, PendingUnits
    from pipeline.engine.dask.worker import StageSpec, UnitResult

    Connector = Callable[[Runtime], AbstractContextManager[Connection]]

ATTEMPTS = 3
"""Attempts at a unit before it counts as failed; the last one runs with no other unit pending."""

MAX_PENDING = 1000
"""Units submitted and not yet finished: enough for 300 workers, and little memory."""


class Cluster(Engine):
    """Computes units on Dask workers: local ones (`workers_here`) or a cluster (`scheduler_at`)."""

    def __init__(self, connector: Connector, rebuild: Rebuild, part: Part | None = None) -> None:
        super().__init__(part)
        self._connector, self._rebuild = connector, rebuild
        self._connection: Connection | None = None
        self._resources, self._run = ExitStack(), uuid.uuid4().hex

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
            yield DaskSession(connection, job, spec_of(job, self._run, self._rebuild))
        finally:
            connection.release(self._run)


class DaskSession(Session):
    """Submits the units of a stage to Dask and retries failures."""

    def __init__(self, connection: Connection, job: Job, spec: StageSpec) -> None:
        super().__init__()
        self._connection, self._job, self._spec = connection, job, spec
        self.parts = UnderWay(job.stage.model_name)
        self._queue: deque[Unit] = deque()
        self._last_attempts: deque[Unit] = deque()
        """Units with one attempt left, submitted only while no other unit is pending."""
        self._failed_on: dict[str, list[str]] = {}
        """Addresses of the workers that each unit failed on, by the unit's name."""

    def compute(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Compute the unclaimed units of `todo`; yield them in the order they finish."""
        from pipeline.engine.dask.client import PendingUnits
        from pipeline.engine.dask.parts import listener
        from pipeline.engine.dask.worker import State

        claimed = {claim.unit for claim in living(self._job.artifact.path / "claims")}
        self._queue.extend(unit for unit in todo if unit.name not in claimed)
        stage = self._job.stage
        prefix = f"{stage.name}-{stage.key}-{uuid.uuid4().hex[:8]}"
        pending = PendingUnits(self._connection, prefix)
        self._connection.hear_parts(listener(self._spec.run, stage.name, self.parts.tell))
        try:
            while self._submit(pending):
                for unit, result in pending.next_results():
                    self.add_seconds(result.seconds)
                    self.parts.end(unit.name)
                    if result.state == State.STOP:
                        raise _error_of(result)
                    if result.state == State.DONE:
                        self.any_computed = True
                        yield Done(unit, result.worker)
                    if result.state == State.FAILED:
                        self._retry_or_fail(unit, result)
                if self.should_abort:
                    return
        finally:
            pending.cancel()

    def _submit(self, pending: PendingUnits) -> bool:
        """Submit as many units as allowed; return whether any is pending afterwards."""
        while self._queue and len(pending) < MAX_PENDING:
            self._submit_one(pending, self._queue.popleft())
        if self._last_attempts and not len(pending):
            self._submit_one(pending, self._last_attempts.popleft())
        return len(pending) > 0

    def _submit_one(self, pending: PendingUnits, unit: Unit) -> None:
        """Submit a unit, to a worker that it has not failed on if there is one."""
        self.parts.begin(unit.name, unit.size)
        pending.submit(self._spec, unit, avoid=self._failed_on.get(unit.name, []))

    def _retry_or_fail(self, unit: Unit, result: UnitResult) -> None:
        """Record a failure; queue the unit again if it has an attempt left."""
        if result.traceback:
            self._job.artifact.fail(unit, result.traceback)
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
