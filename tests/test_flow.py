"""Reading ahead and writing behind: in order, bounded, each error met by its own unit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from pipeline.artifact import Artifact
from pipeline.engine import MAX_FAILURES
from pipeline.errors import AbsError, UnitsFailed
from pipeline.flow import ahead
from pipeline.progress import Reporter
from pipeline.runner import run_stage
from pipeline.stage import Stage, Unit, Worker
from pipeline.store import Store
from tests.conftest import Runner, digests, make_all


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as threads:
        yield threads


def test_results_come_in_the_order_of_the_items(pool: ThreadPoolExecutor) -> None:
    gates = [threading.Event() for _ in range(4)]
    gates[3].set()

    def square(i: int) -> int:
        assert gates[i + 1].wait(5), "the one after it must run first"
        gates[i].set()
        return i * i

    found = [(i, future.result()) for i, future in ahead(pool, square, range(3), depth=2)]
    assert found == [(0, 0), (1, 1), (2, 4)]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_depth_items_are_begun_before_their_turn(
    pool: ThreadPoolExecutor, depth: int
) -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    for done, (_, future) in enumerate(ahead(pool, str, items(), depth)):
        assert future.result() == str(done)
        assert len(taken) <= done + 1 + depth
    assert taken == list(range(10))


def test_an_error_is_met_where_its_item_is_and_the_others_are_fine(
    pool: ThreadPoolExecutor,
) -> None:
    found = [future.exception() for _, future in ahead(pool, (1).__truediv__, [1, 0, 2], 1)]
    assert [type(error) for error in found] == [type(None), ZeroDivisionError, type(None)]


def test_what_is_not_asked_for_any_more_is_not_done() -> None:
    started, gate = [], threading.Event()

    def work(i: int) -> None:
        started.append(i)
        gate.wait(5)

    with ThreadPoolExecutor(1) as pool:
        some = ahead(pool, work, range(5), depth=3)
        next(some)
        some.close()  # type: ignore[attr-defined]
        gate.set()
    assert started == [0]


# --- In the runner ---------------------------------------------------------------------------


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
        with pytest.raises(UnitsFailed, match="1 units failed, the first, 00001, with ValueError"):
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
    real = Artifact.write

    def broken(self: Artifact, unit: Unit, outputs: Any) -> Any:
        if unit.name == "00001":
            raise error
        return real(self, unit, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "write", broken)
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
