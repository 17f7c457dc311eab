"""Runs one stage: the units that are not in its ledger, then the manifest.

A unit's failure is recorded and never cached; the others go on, and nothing is finalised with
holes. An error of the store itself (disk full, no permission) stops at once.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import AbsError, UnitsFailed
from pipeline.flow import Result, ahead
from pipeline.progress import Reporter, clock
from pipeline.provenance import provenance
from pipeline.stage import Stage, Unit, Worker
from pipeline.store import Artifact, Store

if TYPE_CHECKING:
    from pipeline.stage import Output

AHEAD = 1
"""Units read before their turn, and as many written behind it."""

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
    seconds = _compute(stage, store, artifact, todo, len(units), reporter) if todo else {}
    stage.verify(artifact)
    took = {name: round(value, 3) for name, value in seconds.items()}
    artifact.finalise({**provenance(stage, store, settings), "last_pass": took})
    reporter.say(_summary(stage, todo, len(units), time.perf_counter() - started, took))
    return Outcome(*base, state="computed", units=len(units), computed=len(todo), seconds=took)


@dataclass
class _Pass:
    """The units of a stage on their way through read, compute and write, each in its own thread."""

    worker: Worker
    artifact: Artifact
    clocks: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "read", "compute", "write", "wait"), 0.0)
    )
    failed: list[tuple[Unit, Exception]] = field(default_factory=list)

    def __call__(self, todo: list[Unit], depth: int) -> Generator[Unit, None, None]:
        """Bring each of `todo` to its receipt; yields those that went through."""
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            computed = self._computed(ahead(reader, self._read, todo, depth))
            try:
                for (unit, _, _), written in ahead(writer, self._write, computed, depth):
                    with self._of(unit):
                        self._wait(written)
                    yield unit
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

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
        self.artifact.commit(unit, len(next(iter(outputs.values()))), written, seconds)
        for name, value in seconds.items():
            self.clocks[name] += value

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


def _compute(
    stage: Stage, store: Store, artifact: Artifact, todo: list[Unit], of: int, reporter: Reporter
) -> dict[str, float]:
    start = time.perf_counter()
    worker = stage.worker(store)
    artifact.begin(stage.identity())
    for spec in worker.arrays():
        artifact.create(spec)
    units = _Pass(worker, artifact)
    units.clocks["load"] = time.perf_counter() - start
    reporter.say(_start(stage, todo, of))
    size = sum(unit.size for unit in todo)
    with (
        reporter.stage(stage.name, size, stage.counts) as advance,
        closing(units(todo, AHEAD)) as finished,
    ):
        for unit in finished:
            advance(unit.size)
    if units.failed:
        raise _failure(stage, artifact, units.failed)
    return units.clocks


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
    stage: Stage, todo: list[Unit], of: int, total: float, seconds: dict[str, float]
) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)
    rate = sum(unit.size for unit in todo) / max(total, 1e-9)
    each = f"{rate:,.0f} {stage.counts}/s; " if stage.counts else ""
    units = f"{len(todo)} of {of} units in {clock(total)}"
    return f"{stage.name}: done, {units} ({each}seconds: {parts or '0'}) {stage.key}"
