"""Run one stage: compute the units that are not in its ledger, then write the manifest.

Several processes may run the same stage: each computes the units that it can claim, then waits for
the units that others have claimed. The engine decides which process computes a unit. The failure of
a unit is recorded and never cached, and the other units go on; the manifest is written only once
all units are finished.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.core.errors import UnitsFailed
from pipeline.core.layers import Selection
from pipeline.core.progress import Advance, Reporter, clock
from pipeline.core.words import counted
from pipeline.engine.base import Engine, Job, Session
from pipeline.engine.inline import Inline
from pipeline.engine.provenance import provenance
from pipeline.stage import Stage, refuse_changed
from pipeline.store.artifact import Artifact
from pipeline.store.claims import claimed, living
from pipeline.store.store import Store
from pipeline.store.units import Unit, by_round
from pipeline.store.writer import ArtifactWriter, store_error

POLL, MAX_POLL = 0.2, 2.0
"""First and longest pause, in seconds, between two checks for units of other processes."""
REPORT_AFTER = 10.0
"""Seconds of waiting for other processes before a message names them."""


@dataclass(frozen=True)
class Outcome:
    """Result of one stage of a run."""

    stage: str
    key: str
    path: str
    state: str
    """`cached` or `computed`."""
    units: int | None = None
    computed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, for `--json`."""
        return asdict(self)


def run_stage(
    stage: Stage,
    store: Store,
    reporter: Reporter,
    settings: Any,
    engine: Engine | None = None,
    selection: Selection | None = None,
) -> Outcome:
    """Compute the missing units of `stage` and finalise its artifact.

    Without an engine they are computed in this process. The manifest records the settings and
    the selection that they come from. Raises UnitsFailed if a unit failed.
    """
    engine = engine or Inline()
    artifact = store.artifact(stage)
    writer, units = ArtifactWriter(artifact), stage.units(store)
    base = stage.name, stage.key, str(artifact.path)
    if artifact.missing(units) is None:
        with suppress(OSError):  # a store that can only be read stays as it is
            writer.seal()
        reporter.say(f"{stage.name}: cached ({artifact.manifest['rows']:,} rows) {stage.key}")
        _say_remarks(stage, artifact, reporter)
        return Outcome(*base, state="cached", units=len(units))
    finished = artifact.finished(units)
    todo = [unit for unit in engine.part.order(units) if unit.name not in finished]
    started = time.perf_counter()
    try:
        writer.begin(stage.identity())
        # No gc and no --force takes the artifact away before its manifest is written.
        with claimed(artifact.path / "claims"):
            job = Job(stage, store, settings)
            seconds, written = _compute(
                engine if todo else Inline(), job, todo, len(units), reporter
            )
            stage.verify(artifact)
            refuse_changed(stage)
            seconds = {step: round(value, 3) for step, value in seconds.items()}
            record = {"last_pass": seconds, "remarks": stage.remarks(artifact)}
            record |= {"figures": stage.figures(artifact)}
            record |= {"selection": selection.as_dict()} if selection else {}
            writer.finalise(units, {**provenance(stage, store, settings), **record})
    except OSError as error:
        raise store_error(error, artifact) from error
    reporter.say(_summary(stage, written, len(units), time.perf_counter() - started, seconds))
    _say_remarks(stage, artifact, reporter)
    computed = len(written)
    return Outcome(*base, state="computed", units=len(units), computed=computed, seconds=seconds)


def _compute(
    engine: Engine, job: Job, todo: list[Unit], of: int, reporter: Reporter
) -> tuple[dict[str, float], list[Unit]]:
    """Return the seconds of each step, and the units that this run wrote.

    The stage is opened even without units, because that creates the arrays that the manifest
    describes.
    """
    stage, size = job.stage, sum(unit.size for unit in todo)
    with ExitStack() as opened:
        loading = f"{stage.name}: loading {stage.model_name or 'its inputs'}"
        with reporter.busy(loading) if todo else nullcontext():
            session = opened.enter_context(engine.open(job))
        reporter.say(_start(stage, todo, of))
        shown = stage.name, size, stage.counts, len(todo), session.under_way
        with reporter.stage(*shown) as advance:
            written: list[Unit] = []
            for together in by_round(todo):
                written += _compute_all(session, job.artifact, together, advance, reporter)
                if session.failed:
                    break
    if session.failed:
        raise _failure(job, session)
    return session.seconds, written


def _compute_all(
    session: Session, artifact: Artifact, todo: list[Unit], advance: Advance, reporter: Reporter
) -> list[Unit]:
    """Wait until every unit of `todo` has a receipt or failed; return those of this session.

    Units that other processes have claimed are left to them, and computed here if a process ends
    without finishing them. Stops early if the session gives up. `advance` gets the size of each
    unit, and the worker that wrote it.
    """
    written: list[Unit] = []
    left, others = todo, OtherProcesses(artifact, reporter)
    while left and not session.should_abort:
        before = len(left)
        with closing(session.compute(left)) as finished:
            for unit, worker in finished:
                written.append(unit)
                advance(unit.size, worker)
        own = {unit.name for unit in written} | {unit.name for unit, _ in session.failed}
        left = [unit for unit in left if unit.name not in own]
        elsewhere = artifact.finished(left)
        for unit in left:
            if unit.name in elsewhere:
                advance(unit.size, "")
        left = [unit for unit in left if unit.name not in elsewhere]
        if len(left) < before:
            others = OtherProcesses(artifact, reporter)
        else:
            session.add_seconds({"wait": others.wait(left)})
    return written


class OtherProcesses:
    """Waits for units that other processes have claimed, with growing pauses.

    After REPORT_AFTER seconds a message names the processes, once.
    """

    def __init__(self, artifact: Artifact, reporter: Reporter) -> None:
        self._artifact, self._reporter = artifact, reporter
        self._pause, self._waited = POLL, 0.0

    def wait(self, left: list[Unit]) -> float:
        """Sleep before the next check of the units `left`; return the seconds slept."""
        time.sleep(pause := self._pause)
        self._pause = min(MAX_POLL, 1.5 * pause)
        if self._waited < REPORT_AFTER <= self._waited + pause:
            names = {unit.name for unit in left}
            claims = living(self._artifact.path / "claims")
            processes = sorted({claim.who for claim in claims if claim.unit in names})
            left_to = f"{counted(len(left), 'units')} claimed by {' '.join(processes)}"
            self._reporter.say(f"waiting for {left_to}")
        self._waited += pause
        return pause


def _failure(job: Job, session: Session) -> UnitsFailed:
    unit, error = session.failed[0]
    return UnitsFailed(
        f"{job.stage.name}: {counted(len(session.failed), 'units')} failed; the first is "
        f"{unit.name}: {error}; "
        f"tracebacks in {job.artifact.path / 'failures'}; run the command again to retry them"
    )


def _say_remarks(stage: Stage, artifact: Artifact, reporter: Reporter) -> None:
    for remark in artifact.manifest.get("remarks", []):
        reporter.say(f"{stage.name}: {remark}")


def _start(stage: Stage, todo: list[Unit], of: int) -> str:
    kept = f"{of - len(todo)} of {counted(of, 'units')} kept" if len(todo) < of else ""
    size = counted(sum(unit.size for unit in todo), stage.counts) if stage.counts else ""
    return f"{stage.name}: {', '.join(filter(None, (size, kept))) or 'started'}"


def _summary(
    stage: Stage, written: list[Unit], of: int, total: float, seconds: dict[str, float]
) -> str:
    steps = ", ".join(f"{step} {value:.1f}" for step, value in seconds.items() if value >= 0.05)
    rate = sum(unit.size for unit in written) / max(total, 1e-9)
    speed = f"{rate:,.0f} {stage.counts}/s; " if stage.counts else ""
    units = f"{len(written)} of {counted(of, 'units')} in {clock(total)}"
    return f"{stage.name}: done, {units} ({speed}seconds: {steps or '0'}) {stage.key}"
