"""Units that fail are on record and the others kept; what no unit can do without stops a stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.errors import AbsError, UnitsFailed
from pipeline.core.progress import Reporter
from pipeline.engine.base import MAX_FAILURES
from pipeline.engine.runner import run_stage
from pipeline.stage import Stage, Worker
from pipeline.store.store import Store
from pipeline.store.units import Unit
from pipeline.store.writer import ArtifactWriter
from tests.helpers.runs import Runner, digests, make_all


def run(stage: Stage, store: Store, settings: Any) -> Any:
    return run_stage(stage, store, Reporter(quiet=True), settings)


@pytest.mark.parametrize("step", ["read", "compute"])
def test_units_that_fail_are_recorded_and_the_others_kept(
    made: Any, run_of: Runner, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever thread an error is raised in."""
    before, stage = digests(made), made.named("attention")[0]
    made.store.artifact(stage).remove()
    kind = type(stage.worker(made.store))
    real = getattr(kind, step)

    def broken(self: Worker, unit: Unit, *more: Any) -> Any:
        if unit.name == "00001":
            raise ValueError("a cosmic ray")
        return real(self, unit, *more)

    with monkeypatch.context() as patch:
        patch.setattr(kind, step, broken)
        with pytest.raises(UnitsFailed, match="1 unit failed; the first is 00001: ValueError"):
            run(stage, made.store, made.settings)
    artifact = made.store.artifact(stage)
    assert artifact.finished(stage.units(made.store)) == {"00000", "00002"}
    assert "a cosmic ray" in (artifact.path / "failures" / "00001.txt").read_text()
    assert run(stage, made.store, made.settings).computed == 1
    assert digests(made) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), AbsError("not finite")])
def test_what_the_writing_thread_meets_stops_the_stage_in_one_line(
    made: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before, stage = digests(made), made.named("attention")[0]
    made.store.artifact(stage).remove()
    real = ArtifactWriter.write

    def broken(self: ArtifactWriter, unit: Unit, outputs: Any) -> Any:
        if unit.name == "00001":
            raise error
        return real(self, unit, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactWriter, "write", broken)
        with pytest.raises(AbsError, match=r"No space left on device: .*attention|not finite"):
            run(stage, made.store, made.settings)
    artifact = made.store.artifact(stage)
    assert not (artifact.path / "manifest.json").exists()
    assert "00000" in artifact.finished(stage.units(made.store))
    assert run(stage, made.store, made.settings).state == "computed"
    assert digests(made) == before


def test_units_that_fail_do_not_keep_others_from_being_done(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = run_of("layout.images=1")
    make_all(replace(many, stages=many.named("index")))
    stage = many.named("attention")[0]
    kind = type(stage.worker(many.store))
    real = kind.compute

    def broken(self: Worker, unit: Unit, inputs: Any) -> Any:
        if unit.name in ("00001", "00002", "00003", "00005"):
            raise ValueError("no")
        return real(self, unit, inputs)

    monkeypatch.setattr(kind, "compute", broken)
    with pytest.raises(UnitsFailed, match="4 units failed"):
        run(stage, many.store, many.settings)
    done = many.store.artifact(stage).finished(stage.units(many.store))
    assert done == {"00000", "00004", "00006", "00007"}


def test_a_stage_whose_units_all_fail_stops_soon(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    many = run_of("layout.images=1")
    make_all(replace(many, stages=many.named("index")))
    stage = many.named("attention")[0]
    kind = type(stage.worker(many.store))

    def broken(self: Worker, unit: Unit, inputs: Any) -> Any:
        tried.append(unit.name)
        raise ValueError("no")

    monkeypatch.setattr(kind, "compute", broken)
    with pytest.raises(UnitsFailed, match=f"{MAX_FAILURES} units failed"):
        run(stage, many.store, many.settings)
    assert len(tried) == MAX_FAILURES
