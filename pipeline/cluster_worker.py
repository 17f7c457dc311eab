"""The side of a cluster that works: a process that rebuilds a stage and does its units.

Nothing of a stage travels but its settings, its name and its key. A worker whose files or code give
another key refuses. Of a unit only a few words come back; arrays go to the store.
"""

from __future__ import annotations

import errno
import json
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from distributed import get_worker

from pipeline.errors import AbsError
from pipeline.stage import Stage, Unit
from pipeline.store import Store
from pipeline.work import Seconds, Work, told

if TYPE_CHECKING:
    from pipeline.settings import Settings

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of the store that are the same from everywhere."""

IDLE = 60.0
"""Seconds after which a stage that nobody asks for makes room for another."""

THREADS = 3
"""Units that a process has on their way: one is read, one computed, one written."""


@dataclass(frozen=True)
class Recipe:
    """What a stage is rebuilt from."""

    settings: str
    """As JSON, with the number of threads and the places of files settled."""
    threads: int
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
    from pipeline.code import code_of
    from pipeline.run import build
    from pipeline.settings import validate

    validated = validate(json.loads(settings))
    stages = build(validated)
    for stage in stages:
        code_of(stage)  # now that it is imported, whatever its files become while this process runs
    return validated, stages


class State(StrEnum):
    """What became of a unit on a worker."""

    DONE = auto()
    ELSEWHERE = auto()
    """Another process is at it, has finished it, or is to do it."""
    FAILED = auto()
    """This worker cannot do it; another one may."""
    STOP = auto()
    """No unit can go on."""


@dataclass
class Answer:
    """What a worker has to say of a unit."""

    state: State
    error: str = ""
    exit_code: int = 1
    traceback: str = ""
    """Where the unit could not even begin; that of a unit is in the store."""
    spent: bool = False
    """Whether the process ran out of memory, after which it is not what it was."""
    seconds: Seconds = field(default_factory=dict)
    who: str = ""
    """The worker's address."""

    @classmethod
    def failed(cls, error: Exception | str, traceback: str = "", who: str = "") -> Answer:
        """Without a traceback an error in words is its own."""
        spent = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
        if isinstance(error, str):
            return cls(State.FAILED, error, traceback=traceback or error, who=who)
        return cls(State.FAILED, told(error), traceback=traceback, spent=spent, who=who)


class Loaded:
    """A stage that this process has loaded: its units are read, computed and written, one each."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._loading, self._reading = threading.Lock(), threading.Lock()
        self._slots = threading.Semaphore(THREADS)
        self._held = ExitStack()
        self._work: Work | None = None
        self._over = False
        self._under_way: set[str] = set()
        self._last = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether nobody has asked for a unit for long: its driver may be gone."""
        return not self._under_way and time.monotonic() - self._last > IDLE

    def close(self) -> None:
        """Let go of models and claims; nothing is begun any more."""
        self._over, self._work = True, None
        self._held.close()

    def do(self, unit: Unit) -> Answer:
        """Do a unit, unless another process is at it."""
        self._under_way.add(unit.name)
        try:
            with self._slots:
                return self._begin(unit)
        except AbsError as error:
            if _of_this_machine(error.__cause__):
                return Answer.failed(str(error))
            return Answer(State.STOP, str(error), error.exit_code)
        except Exception as error:  # of loading: another worker may fare better
            return Answer.failed(error, traceback.format_exc())
        finally:
            self._under_way.discard(unit.name)
            self._last = time.monotonic()

    def _begin(self, unit: Unit) -> Answer:
        seconds: Seconds = {}
        work = self._loaded(seconds)
        taken = work is not None and work.take(unit)
        answer = self._through(work, unit) if work and taken else Answer(State.ELSEWHERE)
        answer.seconds |= seconds
        return answer

    def _loaded(self, seconds: Seconds) -> Work | None:
        """None: it is let go of."""
        with self._loading:
            if self._work is None and not self._over:
                start = time.perf_counter()
                stage, store = self.recipe.prepared()
                self._work = self._held.enter_context(Work.on(stage, store))
                seconds["load"] = time.perf_counter() - start
            if self._over:  # meanwhile
                self.close()
            return self._work

    def _through(self, work: Work, unit: Unit) -> Answer:
        answers: list[Answer] = []
        with work.errors(unit, lambda error: answers.append(Answer.failed(error))):
            with self._reading:
                inputs, seconds = work.read(unit)
            with _computing(self.recipe.threads):
                outputs = work.compute(unit, inputs, seconds)
            work.write(unit, outputs, seconds)
            answers.append(Answer(State.DONE, seconds=seconds))
        return answers[0]


_one = threading.Lock()


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Alone in this process, as torch's number of threads is in part of the process, and in part
    of the thread of Dask that asks torch for anything."""
    import torch

    with _one:
        torch.set_num_threads(threads)
        yield


_all: dict[str, Loaded] = {}
"""The stage that each run is at, by the run."""
_choosing = threading.Lock()
_spent = threading.Event()
"""Set once this process is to be replaced."""


def do(recipe: Recipe, unit: Unit) -> Answer:
    """The task of a unit."""
    worker = get_worker()
    if _spent.is_set():
        return Answer(State.ELSEWHERE, who=worker.address)
    answer = _loaded(recipe).do(unit)
    answer.who = worker.address
    if answer.spent and not _spent.is_set():
        _spent.set()
        close = partial(worker.close_gracefully, restart=True)  # its nanny starts another one
        later = worker.loop.call_later, 0.2, close  # when this answer is on its way
        worker.loop.add_callback(*later)
    return answer


def forget(run: str) -> None:
    """A run is through with its stage."""
    with _choosing:
        if run in _all:
            _all.pop(run).close()


def _loaded(recipe: Recipe) -> Loaded:
    """A stage of a run, in place of its last one, and of those that nobody asks for."""
    with _choosing:
        if recipe.run not in _all or _all[recipe.run].recipe != recipe:
            for run in [run for run, each in _all.items() if run == recipe.run or each.idle]:
                _all.pop(run).close()
            _all[recipe.run] = Loaded(recipe)
        return _all[recipe.run]


def _of_this_machine(error: BaseException | None) -> bool:
    """Whether an error may be another one's luck."""
    return isinstance(error, OSError) and error.errno not in FULL
