"""Runs one stage: the units that are not in its ledger, then the manifest.

Several processes may run one stage: each takes units that no other is at, and waits for what the
others have. Where the units are done is the engine's concern. A unit's failure is recorded and
never cached; the others go on, and nothing is finalised with holes.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.artifact import Artifact
from pipeline.claims import claimed, living
from pipeline.engine import Engine, Job, Session
from pipeline.errors import UnitsFailed
from pipeline.inline import Inline
from pipeline.progress import Advance, Reporter, clock
from pipeline.provenance import provenance
from pipeline.stage import Stage, Unit
from pipeline.store import Store
from pipeline.work import refuse_changed, store_error

POLL, SELDOM = 0.2, 2.0
"""Seconds between two looks at units that other processes have: at first, and after a while."""
TELL_AFTER = 10.0
"""Seconds of waiting for other processes after which it is said."""


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


def run_stage(
    stage: Stage,
    store: Store,
    reporter: Reporter,
    settings: Any,
    engine: Engine | None = None,
) -> Outcome:
    """Bring `stage` to its finished state, computing only the units that are missing.

    Without an engine they are computed in this process.
    """
    engine = engine or Inline()
    artifact = store.artifact(stage)
    units = stage.units(store)
    base = stage.name, stage.key, str(artifact.path)
    if artifact.missing(units) is None:
        reporter.say(f"{stage.name}: cached ({artifact.manifest['rows']:,} rows) {stage.key}")
        return Outcome(*base, state="cached", units=len(units))
    done = artifact.finished(units)
    todo = [unit for unit in engine.part.order(units) if unit.name not in done]
    started = time.perf_counter()
    try:
        artifact.begin(stage.identity())
        with claimed(artifact.path / "claims"):  # until there is a manifest
            job = Job(stage, store, settings)
            where = engine if todo else Inline()
            clocks, written = _compute(where, job, todo, len(units), reporter)
            stage.verify(artifact)
            refuse_changed(stage)
            took = {name: round(value, 3) for name, value in clocks.items()}
            artifact.finalise(units, {**provenance(stage, store, settings), "last_pass": took})
    except OSError as error:
        raise store_error(error, artifact) from error
    reporter.say(_summary(stage, written, len(units), time.perf_counter() - started, took))
    return Outcome(*base, state="computed", units=len(units), computed=len(written), seconds=took)


def _compute(
    engine: Engine, job: Job, todo: list[Unit], of: int, reporter: Reporter
) -> tuple[dict[str, float], list[Unit]]:
    """Where the time was spent, and the units that were written.

    Without units the arrays are still made what they must be, as a manifest is to describe them.
    """
    stage, size = job.stage, sum(unit.size for unit in todo)
    with engine.open(job) as session:
        reporter.say(_start(stage, todo, of))
        with reporter.stage(stage.name, size, stage.counts, len(todo)) as advance:
            written = _bring(session, job.artifact, todo, advance, reporter)
    if session.failed:
        raise _failure(job, session)
    return session.clocks, written


def _bring(
    session: Session, artifact: Artifact, todo: list[Unit], advance: Advance, reporter: Reporter
) -> list[Unit]:
    """Bring all of `todo` to receipts, whoever writes them, but for what fails.

    Those that were written here. `advance` is told the size of each, and by whom it was written.
    """
    written: list[Unit] = []
    left, others = todo, Others(artifact, reporter)
    while left and not session.hopeless:
        before = len(left)
        with closing(session.turn(left)) as finished:
            for unit, who in finished:
                written.append(unit)
                advance(unit.size, who)
        ours = {unit.name for unit in written} | {unit.name for unit, _ in session.failed}
        left = [unit for unit in left if unit.name not in ours]
        elsewhere = artifact.finished(left)
        for unit in left:
            if unit.name in elsewhere:
                advance(unit.size, "")
        left = [unit for unit in left if unit.name not in elsewhere]
        if len(left) < before:
            others = Others(artifact, reporter)
        else:
            session.count({"wait": others.wait(left)})
    return written


class Others:
    """Waiting for other processes, longer each time; who they are is said once it takes a while."""

    def __init__(self, artifact: Artifact, reporter: Reporter) -> None:
        self._artifact, self._reporter = artifact, reporter
        self._pause, self._waited = POLL, 0.0

    def wait(self, left: list[Unit]) -> float:
        """A while, as nothing was done since. The seconds waited."""
        time.sleep(pause := self._pause)
        self._pause = min(SELDOM, 1.5 * pause)
        if self._waited < TELL_AFTER <= self._waited + pause:
            names = {unit.name for unit in left}
            who = {
                each.who for each in living(self._artifact.path / "claims") if each.unit in names
            }
            self._reporter.say(f"waiting for {len(left)} units that {' '.join(sorted(who))} has")
        self._waited += pause
        return pause


def _failure(job: Job, session: Session) -> UnitsFailed:
    unit, error = session.failed[0]
    return UnitsFailed(
        f"{job.stage.name}: {len(session.failed)} units failed, the first, {unit.name}, with "
        f"{error}; tracebacks in {job.artifact.path / 'failures'}; a rerun tries them again"
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
