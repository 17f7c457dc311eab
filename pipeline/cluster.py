"""The engine of many processes: Dask distributed, a future per unit, on this machine or elsewhere.

The driver plans, hands out units and reads their receipts; no array passes it or the scheduler.
Claims keep the workers apart, also from those of other runs.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from pipeline.claims import living
from pipeline.code import code_of
from pipeline.engine import Done, Engine, Failed, Job, Part, Session
from pipeline.errors import AbsError
from pipeline.stage import Unit

if TYPE_CHECKING:
    from pipeline.cluster_worker import Answer, Recipe
    from pipeline.link import Asked, Link
    from pipeline.runtime import Runtime

    Opener = Callable[[Runtime], AbstractContextManager[Link]]

ATTEMPTS = 3
"""Times that a unit is tried before it is given up, the last of them alone."""

AT_ONCE = 1000
"""Units that are asked for and not answered: enough for 300 workers, and little memory."""


class Cluster(Engine):
    """Workers behind a scheduler: `workers_here`, or those of `scheduler_at` some address."""

    def __init__(self, opener: Opener, part: Part | None = None) -> None:
        super().__init__(part)
        self._opener = opener
        self._link: Link | None = None
        self._held, self._run = ExitStack(), uuid.uuid4().hex

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @contextmanager
    def open(self, job: Job) -> Iterator[Session]:
        """Connect with the first stage that has something to do; workers load it with a unit."""
        link = self._link
        if link is None:
            link = self._link = self._held.enter_context(self._opener(job.settings.runtime))
        try:
            yield Turns(link, job, recipe_of(job, self._run))
        finally:
            link.forget(self._run)


class Turns(Session):
    """A stage whose units are asked for, answered, and some of them asked for again."""

    def __init__(self, link: Link, job: Job, recipe: Recipe) -> None:
        super().__init__()
        self._link, self._job, self._recipe = link, job, recipe
        self._free: deque[Unit] = deque()
        self._alone: deque[Unit] = deque()
        """Units that have one attempt left, for when no other is under way."""
        self._tried: dict[str, list[str]] = {}
        """The workers that each unit has failed on."""

    def turn(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Each that is free, in whatever order workers finish them."""
        from pipeline.cluster_worker import State
        from pipeline.link import Asked

        taken = {claim.unit for claim in living(self._job.artifact.path / "claims")}
        self._free.extend(unit for unit in todo if unit.name not in taken)
        stage = self._job.stage
        asked = Asked(self._link, f"{stage.name}-{stage.key}-{uuid.uuid4().hex[:8]}")
        try:
            while self._ask(asked):
                for unit, answer in asked.answers():
                    self.count(answer.seconds)
                    if answer.state == State.STOP:
                        raise _stop(answer)
                    if answer.state == State.DONE:
                        self.any_done = True
                        yield Done(unit, answer.who)
                    if answer.state == State.FAILED:
                        self._failed(unit, answer)
                if self.hopeless:
                    return
        finally:
            asked.cancel()

    def _ask(self, asked: Asked) -> bool:
        """For what can be asked for; False if nothing is under way then."""
        while self._free and len(asked) < AT_ONCE:
            unit = self._free.popleft()
            asked.ask(self._recipe, unit, self._tried.get(unit.name, []))
        if self._alone and not len(asked):
            unit = self._alone.popleft()
            asked.ask(self._recipe, unit, self._tried[unit.name])
        return len(asked) > 0

    def _failed(self, unit: Unit, answer: Answer) -> None:
        """Put it down, and try once more if there is an attempt left."""
        if answer.traceback:
            self._job.artifact.fail(unit, answer.traceback)
        tried = self._tried.setdefault(unit.name, [])
        tried.append(answer.who)
        if len(tried) == ATTEMPTS:
            self.failed.append(Failed(unit, answer.error))
        else:
            (self._alone if len(tried) == ATTEMPTS - 1 else self._free).append(unit)


def _stop(answer: Answer) -> AbsError:
    error = AbsError(f"{answer.error} (worker {answer.who})")
    error.exit_code = answer.exit_code
    return error


def recipe_of(job: Job, run: str) -> Recipe:
    """What workers rebuild a stage from.

    They compute with as many threads as this process would, since another number may round
    otherwise, and look for files where this process does.
    """
    import torch

    from pipeline.cluster_worker import Recipe

    s = job.settings
    threads = s.runtime.threads or torch.get_num_threads()
    runtime = s.runtime.model_copy(update={"threads": threads})
    settled = s.model_copy(update={"runtime": runtime, "paths": s.paths.absolute()})
    stage = job.stage
    return Recipe(
        settings=settled.model_dump_json(),
        threads=threads,
        options=job.store.options,
        stage=stage.name,
        key=stage.key,
        code=code_of(stage),
        run=run,
    )
