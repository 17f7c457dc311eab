"""Runs one stage: the units that are not in its ledger, then the manifest.

A unit's failure is recorded and never cached; the others go on, and nothing is finalised with
holes. An error of the store itself (disk full, no permission) stops at once.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.errors import AbsError, UnitsFailed
from pipeline.progress import Reporter, clock
from pipeline.provenance import provenance
from pipeline.stage import Stage, Unit, Worker
from pipeline.store import Artifact, Store

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
    artifact.finalise(provenance(stage, store, settings))
    took = {name: round(value, 3) for name, value in seconds.items()}
    reporter.say(_summary(stage, todo, len(units), time.perf_counter() - started, took))
    return Outcome(*base, state="computed", units=len(units), computed=len(todo), seconds=took)


def _compute(
    stage: Stage, store: Store, artifact: Artifact, todo: list[Unit], of: int, reporter: Reporter
) -> dict[str, float]:
    clocks = {"load": 0.0, "read": 0.0, "compute": 0.0, "write": 0.0}
    start = time.perf_counter()
    worker = stage.worker(store)
    artifact.begin(stage.identity())
    for spec in worker.arrays():
        artifact.create(spec)
    clocks["load"] = time.perf_counter() - start
    reporter.say(_start(stage, todo, of))
    failed: list[tuple[Unit, Exception]] = []
    with reporter.stage(stage.name, sum(u.size for u in todo), stage.counts) as advance:
        for unit in todo:
            try:
                _do_unit(worker, artifact, unit, clocks)
            except AbsError:
                raise
            except OSError as error:
                raise _store_error(error, artifact) from error
            except Exception as error:
                artifact.fail(unit, traceback.format_exc())
                failed.append((unit, error))
                if len(failed) >= MAX_FAILURES:
                    break
            advance(unit.size)
    if failed:
        raise _failure(stage, artifact, failed)
    return clocks


def _do_unit(worker: Worker, artifact: Artifact, unit: Unit, clocks: dict[str, float]) -> None:
    marks = [time.perf_counter()]
    inputs = worker.read(unit)
    marks.append(time.perf_counter())
    outputs = worker.compute(unit, inputs)
    marks.append(time.perf_counter())
    written = artifact.write(unit, outputs)
    marks.append(time.perf_counter())
    names = ("read", "compute", "write")
    seconds = {name: b - a for name, a, b in zip(names, marks, marks[1:], strict=False)}
    artifact.commit(unit, len(next(iter(outputs.values()))), written, seconds)
    for name, value in seconds.items():
        clocks[name] += value


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
