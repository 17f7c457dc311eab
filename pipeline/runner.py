"""Runs one stage: the units that are not in its ledger, then the manifest.

Several processes may run one stage: each takes units that no other is at, and waits for what the
others have. A unit's failure is recorded and never cached; the others go on, and nothing is
finalised with holes. An error of the store itself (disk full, no permission) stops at once.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.claims import Claims, claimed
from pipeline.code import code_of
from pipeline.errors import AbsError, UnitsFailed
from pipeline.flow import Result, ahead
from pipeline.identity import digest
from pipeline.progress import Reporter, clock
from pipeline.provenance import provenance
from pipeline.stage import Stage, Unit, Worker
from pipeline.store import Artifact, Store

if TYPE_CHECKING:
    from pipeline.stage import Output

AHEAD = 1
"""Units read before their turn, and as many written behind it."""

POLL = 0.2
"""Seconds between two looks at units that other processes have."""

MAX_FAILURES = 3
"""A stage stops after so many failed units: what they share is unlikely to mend itself."""


@dataclass(frozen=True)
class Outcome:
    """What became of one stage of a run."""

    stage: str
    key: str
    path: str
    state: str
    """`cached` or `computed`."""
    units: int | None = None
    computed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def run_stage(stage: Stage, store: Store, reporter: Reporter, settings: Any) -> Outcome:
    """Bring `stage` to its finished state, computing only the units that are missing."""
    artifact = store.artifact(stage)
    units = stage.units(store)
    base = stage.name, stage.key, str(artifact.path)
    if artifact.missing(units) is None:
        reporter.say(f"{stage.name}: cached ({artifact.manifest['rows']:,} rows) {stage.key}")
        return Outcome(*base, state="cached", units=len(units))
    done = artifact.finished(units)
    todo = [unit for unit in units if unit.name not in done]
    started = time.perf_counter()
    artifact.begin(stage.identity())
    with claimed(artifact.path / "claims"):  # until there is a manifest
        clocks, written = _compute(stage, store, artifact, todo, len(units), reporter)
        stage.verify(artifact)
        _refuse_changed(stage)
        took = {name: round(value, 3) for name, value in clocks.items()}
        artifact.finalise(units, {**provenance(stage, store, settings), "last_pass": took})
    reporter.say(_summary(stage, written, len(units), time.perf_counter() - started, took))
    return Outcome(*base, state="computed", units=len(units), computed=len(written), seconds=took)


@dataclass
class _Pass:
    """The units of a stage on their way through read, compute and write, each in its own thread."""

    worker: Worker
    artifact: Artifact
    claims: Claims
    code: str
    clocks: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "read", "compute", "write", "wait"), 0.0)
    )
    written: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, Exception]] = field(default_factory=list)

    def __call__(self, todo: list[Unit], advance: Callable[[int], None]) -> None:
        """Bring all of `todo` to receipts, whoever writes them, but for what fails.

        `advance` is told the size of each.
        """
        left = todo
        while left and len(self.failed) < MAX_FAILURES:
            before = len(left)
            with closing(self._once(left, AHEAD)) as finished:
                for unit in finished:
                    self.written.append(unit)
                    advance(unit.size)
            ours = {unit.name for unit in self.written} | {unit.name for unit, _ in self.failed}
            left = [unit for unit in left if unit.name not in ours]
            elsewhere = self.artifact.finished(left)
            advance(sum(unit.size for unit in left if unit.name in elsewhere))
            left = [unit for unit in left if unit.name not in elsewhere]
            if len(left) == before:
                start = time.perf_counter()
                time.sleep(POLL)
                self.clocks["wait"] += time.perf_counter() - start

    def _once(self, todo: list[Unit], depth: int) -> Generator[Unit, None, None]:
        """Bring each of `todo` that is free to its receipt; yields those that went through."""
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            computed = self._computed(ahead(reader, self._read, self._free(todo), depth))
            try:
                for (unit, _, _), written in ahead(writer, self._write, computed, depth):
                    failed = len(self.failed)
                    with self._of(unit):
                        self._wait(written)
                    if len(self.failed) == failed:
                        yield unit
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

    def _free(self, todo: list[Unit]) -> Iterator[Unit]:
        """Those of `todo` that no other process is at, once they are claimed."""
        for unit in todo:
            if not self.claims.take(unit.name):
                continue
            if self.artifact.finished([unit]):
                self.claims.release(unit.name)  # another process was faster
            else:
                yield unit

    def _read(self, unit: Unit) -> tuple[Any, float]:
        start = time.perf_counter()
        return self.worker.read(unit), time.perf_counter() - start

    def _computed(
        self, units: Iterator[tuple[Unit, Future[tuple[Any, float]]]]
    ) -> Iterator[tuple[Unit, dict[str, Output], dict[str, float]]]:
        for unit, future in units:
            done = None
            with self._of(unit):
                inputs, reading = self._wait(future)
                start = time.perf_counter()
                outputs = self.worker.compute(unit, inputs)
                done = outputs, {"read": reading, "compute": time.perf_counter() - start}
            if done:
                yield unit, *done
            if len(self.failed) >= MAX_FAILURES:
                return

    def _write(self, item: tuple[Unit, dict[str, Output], dict[str, float]]) -> None:
        unit, outputs, seconds = item
        start = time.perf_counter()
        written = self.artifact.write(unit, outputs)
        seconds["write"] = time.perf_counter() - start
        rows = len(next(iter(outputs.values())))
        self.artifact.commit(unit, rows, written, seconds, self._maker())
        self.claims.release(unit.name)
        for name, value in seconds.items():
            self.clocks[name] += value

    def _maker(self) -> dict[str, Any]:
        process = {"host": os.uname().nodename, "pid": os.getpid()}
        return {**process, "code": self.code, **self.worker.facts()}

    def _wait(self, future: Future[Result]) -> Result:
        start = time.perf_counter()
        result = future.result()
        self.clocks["wait"] += time.perf_counter() - start
        return result

    @contextmanager
    def _of(self, unit: Unit) -> Iterator[None]:
        """Errors of one unit: what cannot mend itself stops the stage, others are recorded."""
        try:
            yield
        except AbsError:
            raise
        except OSError as error:
            raise _store_error(error, self.artifact) from error
        except Exception as error:
            self.artifact.fail(unit, traceback.format_exc())
            self.failed.append((unit, error))
            self.claims.release(unit.name)


def _compute(
    stage: Stage,
    store: Store,
    artifact: Artifact,
    todo: list[Unit],
    of: int,
    reporter: Reporter,
) -> tuple[dict[str, float], list[Unit]]:
    """Where this process spent its time, and the units that it wrote.

    Without units the arrays are still made what they must be, as a manifest is to describe them.
    """
    start = time.perf_counter()
    worker = stage.worker(store)
    _refuse_changed(stage)
    for spec in worker.arrays():
        artifact.create(spec)
    size = sum(unit.size for unit in todo)
    with (
        Claims(artifact.path / "claims") as claims,
        reporter.stage(stage.name, size, stage.counts) as advance,
    ):
        work = _Pass(worker, artifact, claims, code_of(stage))
        work.clocks["load"] = time.perf_counter() - start
        reporter.say(_start(stage, todo, of))
        work(todo, advance)
    if work.failed:
        raise _failure(stage, artifact, work.failed)
    return work.clocks, work.written


def _refuse_changed(stage: Stage) -> None:
    """AbsError if a file from outside is another one than when the key was made."""
    if digest(stage.identity()) != stage.key:
        raise AbsError(
            f"{stage.name}: a file that it reads (weights, texts, images) changed while it ran; "
            "run the same command again"
        )


def _store_error(error: OSError, artifact: Artifact) -> AbsError:
    where = error.filename or artifact.path
    return AbsError(
        f"{error.strerror or error}: {where}; finished units are kept, mend it and rerun"
    )


def _failure(stage: Stage, artifact: Artifact, failed: list[tuple[Unit, Exception]]) -> UnitsFailed:
    unit, error = failed[0]
    return UnitsFailed(
        f"{stage.name}: {len(failed)} units failed, the first, {unit.name}, with "
        f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; "
        f"tracebacks in {artifact.path / 'failures'}; a rerun tries them again"
    )


def _start(stage: Stage, todo: list[Unit], of: int) -> str:
    kept = f"{of - len(todo)} of {of} units kept" if len(todo) < of else ""
    size = f"{sum(unit.size for unit in todo):,} {stage.counts}" if stage.counts else ""
    return f"{stage.name}: {', '.join(filter(None, (size, kept))) or 'begun'}"


def _summary(
    stage: Stage, written: list[Unit], of: int, total: float, seconds: dict[str, float]
) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)
    rate = sum(unit.size for unit in written) / max(total, 1e-9)
    each = f"{rate:,.0f} {stage.counts}/s; " if stage.counts else ""
    units = f"{len(written)} of {of} units in {clock(total)}"
    return f"{stage.name}: done, {units} ({each}seconds: {parts or '0'}) {stage.key}"
