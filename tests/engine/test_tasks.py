"""Quick units share a task; what a task does not answer for is asked for again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.engine.base import Job
from pipeline.engine.dask import client, driver, worker
from pipeline.engine.dask.driver import ATTEMPTS, MAX_UNITS, DaskSession
from pipeline.engine.dask.worker import AT_ONCE, State, UnitResult, compute_units
from pipeline.run import Run
from pipeline.store.units import Unit, row_units

THREADS = 6
UNITS = list(row_units(300, 1))


@dataclass
class Scheduler:
    """Answers tasks in their order; stands for the connection and for what is pending."""

    elapsed: float
    deadly: str = ""
    """A unit that ends every process that computes it."""
    answered: int = MAX_UNITS
    """Most units of a task that are computed in time."""
    tasks: list[list[str]] = field(default_factory=list)
    most: int = 0
    _left: deque[list[Unit]] = field(default_factory=deque)

    def threads(self) -> int:
        return THREADS

    def hear_units(self, hear: Any) -> None:
        return

    def __len__(self) -> int:
        return len(self._left)

    def submit(self, spec: Any, units: list[Unit], avoid: list[str]) -> None:
        self.tasks.append([unit.name for unit in units])
        self._left.append(units)
        if len(self.tasks) == len(self._left):  # nothing has been answered yet
            self.most = len(self)

    def next_results(self) -> list[tuple[list[Unit], list[UnitResult] | UnitResult]]:
        units = self._left.popleft()
        if self.deadly in [unit.name for unit in units]:
            return [(units, UnitResult.failure("its worker processes died"))]
        done = UnitResult(State.DONE, elapsed=self.elapsed)
        return [(units, [done] * min(len(units), self.answered))]

    def cancel(self) -> None:
        return


@pytest.fixture
def computed(made: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that computes UNITS with a scheduler: the finished units, and the session."""

    def compute(scheduler: Scheduler) -> tuple[list[str], DaskSession]:
        monkeypatch.setattr(client, "PendingTasks", lambda *words: scheduler)
        job = Job(made.named("attention")[0], made.store, made.settings)
        found: Any = scheduler
        session = DaskSession(found, job, driver.spec_of(job, "a", rebuild))
        return [unit.name for unit, _ in session.compute(UNITS)], session

    def rebuild(settings: str) -> Any:
        raise AssertionError

    return compute


def test_quick_units_share_tasks_and_slow_ones_do_not(computed: Any) -> None:
    names = [unit.name for unit in UNITS]
    for elapsed, size in ((AT_ONCE, 1), (AT_ONCE / 8, 4), (1e-6, MAX_UNITS)):
        done, _ = computed(scheduler := Scheduler(elapsed))
        assert sorted(done) == names
        assert scheduler.most == THREADS  # nobody knows how long a unit takes
        assert {len(task) for task in scheduler.tasks[:THREADS]} == {1}
        assert {len(task) for task in scheduler.tasks[THREADS:-1]} == {size}
        assert sum(map(len, scheduler.tasks)) == len(UNITS)


def test_units_that_a_task_has_no_time_for_are_asked_for_again(computed: Any) -> None:
    done, session = computed(Scheduler(1e-6, answered=3))
    assert sorted(done) == [unit.name for unit in UNITS]
    assert not session.failed


def test_of_a_task_that_ends_its_process_only_the_unit_that_does_it_fails(computed: Any) -> None:
    deadly = UNITS[100].name
    done, session = computed(scheduler := Scheduler(1e-6, deadly=deadly))
    assert sorted([*done, deadly]) == [unit.name for unit in UNITS]
    assert [unit.name for unit, _ in session.failed] == [deadly]
    assert [len(task) for task in scheduler.tasks if deadly in task] == [MAX_UNITS] + [1] * ATTEMPTS


def test_a_task_ends_with_its_time_or_with_an_error_that_all_units_would_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = dict.fromkeys((unit.name for unit in UNITS), State.DONE)
    monkeypatch.setattr(worker, "_compute_unit", lambda spec, unit: UnitResult(states[unit.name]))
    spec: Any = None
    assert len(compute_units(spec, UNITS[:5])) == 5
    states[UNITS[1].name] = State.STOP
    assert [each.state for each in compute_units(spec, UNITS[:5])] == [State.DONE, State.STOP]
    monkeypatch.setattr(worker, "AT_ONCE", -1.0)
    assert len(compute_units(spec, UNITS[:5])) == 1
