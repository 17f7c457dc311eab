"""The side of a cluster that works: a process that rebuilds a stage and does its units.

Nothing of a stage travels but its settings, its name and its key. A worker whose files or code give
another key refuses. Of a unit only a few words come back; arrays go to the store.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

from pipeline.errors import AbsError
from pipeline.stage import Stage, Unit
from pipeline.store import Store
from pipeline.work import Seconds, Work, told

if TYPE_CHECKING:
    from pipeline.settings import Settings

THREADS = 3
"""Units that a process has on their way: one is read, one computed, one written."""


@dataclass(frozen=True)
class Recipe:
    """What a stage is rebuilt from."""

    settings: str
    """As JSON, with the number of threads and the places of files settled."""
    options: str
    stage: str
    key: str
    code: str
    run: str
    """Any name, another one for every command: files may have changed between two of them."""

    def prepared(self) -> tuple[Stage, Store]:
        """The stage as it is here; AbsError if it is another one."""
        from pipeline.code import code_of

        settings, stages = _planned(self.settings, self.run)
        stage = next((each for each in stages if each.name == self.stage), None)
        if stage is None or stage.key != self.key:
            raise AbsError(f"{self.stage}: this worker sees other files, or runs another version")
        if code_of(stage) != self.code:
            raise AbsError(f"{self.stage}: this worker runs other code than what asks it")
        return stage, Store(settings.paths.store, settings.dataset.name, self.options)


@lru_cache(maxsize=1)
def _planned(settings: str, run: str) -> tuple[Settings, list[Stage]]:
    """The stages of a run. Files are looked at once, as in a process of its own."""
    from pipeline.run import build
    from pipeline.settings import validate

    validated = validate(json.loads(settings))
    return validated, build(validated)


@dataclass
class Answer:
    """What became of a unit on a worker."""

    state: str
    """`done`; `elsewhere`, as another process is at it or has finished it; `failed`; or `stop`, as
    no unit can go on."""
    error: str = ""
    exit_code: int = 1
    traceback: str = ""
    """Where the unit could not even begin; that of a unit is in the store."""
    spent: bool = False
    """Whether the process ran out of memory, after which it is not what it was."""
    seconds: Seconds = field(default_factory=dict)
    who: str = ""
    """The worker's address."""


class StagePlugin(WorkerPlugin):
    """The stage that is being made: loaded once per process, by the first unit that needs it."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def setup(self, worker: Any) -> None:
        """On a worker, before any unit."""
        self._loading, self._reading, self._computing = (threading.Lock() for _ in range(3))
        self._slots = threading.Semaphore(THREADS)
        self._held = ExitStack()
        self._work: Work | None = None

    def teardown(self, worker: Any) -> None:
        """Let go of models and claims."""
        self._work = None
        self._held.close()

    def do(self, unit: Unit) -> Answer:
        """Do a unit, unless another process is at it."""
        try:
            with self._slots:
                return self._begin(unit)
        except AbsError as error:
            return Answer("stop", str(error), error.exit_code)
        except OSError as error:
            return Answer("stop", f"{error.strerror or error}: {error.filename or ''}")
        except Exception as error:  # of loading: another worker may fare better
            return _failed(error, traceback.format_exc())

    def _begin(self, unit: Unit) -> Answer:
        seconds: Seconds = {}
        work = self._loaded(seconds)
        answer = self._through(work, unit) if work.take(unit) else Answer("elsewhere")
        answer.seconds |= seconds
        return answer

    def _loaded(self, seconds: Seconds) -> Work:
        with self._loading:
            if self._work is None:
                start = time.perf_counter()
                stage, store = self._recipe.prepared()
                self._work = self._held.enter_context(Work.on(stage, store))
                seconds["load"] = time.perf_counter() - start
            return self._work

    def _through(self, work: Work, unit: Unit) -> Answer:
        answers: list[Answer] = []
        with work.errors(unit, lambda error: answers.append(_failed(error))):
            with self._reading:
                inputs, seconds = work.read(unit)
            with self._computing:
                outputs = work.compute(unit, inputs, seconds)
            work.write(unit, outputs, seconds)
            answers.append(Answer("done", seconds=seconds))
        return answers[0]


def do(plugin: str, unit: Unit) -> Answer:
    """The task of a unit."""
    worker = get_worker()
    stage: Any = worker.plugins[plugin]
    answer: Answer = stage.do(unit)
    answer.who = worker.address
    if answer.spent:  # its nanny starts another process, once units that go well are through
        worker.loop.add_callback(partial(worker.close_gracefully, restart=True))
    return answer


def _failed(error: Exception, traceback: str = "") -> Answer:
    spent = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    return Answer("failed", told(error), traceback=traceback, spent=spent)
