"""Worker side of the Dask engine: rebuild a stage from its settings and compute its units.

A task carries the settings, the name and the key of a stage, and units. A worker whose files or
code lead to another key refuses the task. Outputs go to the store; a task returns a `UnitResult`
for each unit.
"""

from __future__ import annotations

import errno
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import lru_cache, partial

from distributed import get_worker

from pipeline.core.code import code_of
from pipeline.core.errors import AbsError, one_line
from pipeline.core.under_way import LOAD
from pipeline.engine.base import Rebuild
from pipeline.engine.dask.under_way import teller
from pipeline.engine.work import Seconds, Told, UnitWork
from pipeline.stage import Stage
from pipeline.store.store import Store
from pipeline.store.units import Unit

STORE_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a shared store that every worker would meet."""

IDLE = 60.0
"""Seconds without a task after which a loaded stage may be released for another run's."""

AT_ONCE = 0.2
"""Seconds of units that a task computes. A task costs as much as a quick unit, so it has many of
these; what a worker that is killed takes with it is still its units in flight alone."""

THREADS = 3
"""Threads of a worker: one unit is read while another is computed and a third is written."""


@dataclass(frozen=True)
class StageSpec:
    """Everything that a worker needs to rebuild a stage."""

    settings: str
    """Settings as JSON, with the number of threads filled in and absolute paths."""
    threads: int
    options: str
    stage: str
    key: str
    code: str
    run: str
    """Unique name of the command that submits units: files may change between two commands."""

    rebuild: Rebuild = field(compare=False)
    """Function that rebuilds store and stages. Not compared: a copy that was sent may not be equal,
    and the run decides.
    """
    sharing: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Number of workers by their host, as far as known; that of any host under an empty name."""

    def sharing_at(self, address: str) -> int | None:
        """Return the number of workers on the host of a worker's address, if it is known."""
        return self.sharing.get("") or self.sharing.get(host_of(address))

    def build(self) -> tuple[Stage, Store]:
        """Rebuild the stage and its store. Raises AbsError if key or code differ on this worker."""
        store, stages = _stages_of_run(self.rebuild, self.settings, self.run)
        wanted = self.stage, self.key
        stage = next((stage for stage in stages if (stage.name, stage.key) == wanted), None)
        if stage is None:
            raise AbsError(
                f"{self.stage}: a worker computes another key; it has other files or another "
                "version of the project"
            )
        if code_of(stage) != self.code:
            raise AbsError(
                f"{self.stage}: a worker has other code than this command; install the same code "
                "there and restart it"
            )
        return stage, replace(store, options=self.options)


def host_of(address: str) -> str:
    """Return a worker's address without its port."""
    return address.rpartition(":")[0]


@lru_cache(maxsize=1)
def _stages_of_run(rebuild: Rebuild, settings: str, run: str) -> tuple[Store, Sequence[Stage]]:
    """Rebuild store and stages once per run, so that files are hashed once."""
    store, stages = rebuild(settings)
    for stage in stages:
        code_of(stage)  # cached now: the digest of the code that was imported, not of later edits
    return store, stages


class State(StrEnum):
    """Outcome of a unit."""

    DONE = auto()
    SKIPPED = auto()
    """Another process has claimed or finished the unit, or this worker is about to close."""
    FAILED = auto()
    """The unit failed on this worker; another worker may succeed."""
    STOP = auto()
    """An error that every unit of the stage would meet."""


@dataclass
class UnitResult:
    """Result of one unit of a task."""

    state: State
    error: str = ""
    exit_code: int = 1
    traceback: str = ""
    """Traceback of an error outside the unit, such as loading; a unit's own is in the store."""
    out_of_memory: bool = False
    """True if the process ran out of memory and has to be restarted."""
    seconds: Seconds = field(default_factory=dict)
    elapsed: float = 0.0
    """Seconds from claim to receipt, without loading; 0 if the unit was not computed."""
    worker: str = ""
    """Address of the worker."""

    @classmethod
    def failure(cls, error: Exception | str, traceback: str = "", worker: str = "") -> UnitResult:
        """Return a FAILED result; an error given as text is also its own traceback."""
        if isinstance(error, str):
            return cls(State.FAILED, error, traceback=traceback or error, worker=worker)
        memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
        message = one_line(error)
        return cls(State.FAILED, message, traceback=traceback, out_of_memory=memory, worker=worker)


class LoadedStage:
    """A stage in this process: loaded with the first unit, then kept for the others.

    One unit at a time is read, and one is computed.
    """

    def __init__(self, spec: StageSpec, address: str = "") -> None:
        self.spec, self.address = spec, address
        self._loading, self._reading = threading.Lock(), threading.Lock()
        self._slots = threading.Semaphore(THREADS)
        self._resources = ExitStack()
        self._work: UnitWork | None = None
        self._closed = False
        self._active: set[str] = set()
        self._last = time.monotonic()

    @property
    def idle(self) -> bool:
        """True if the last task ended more than IDLE seconds ago; the client may be gone."""
        return not self._active and time.monotonic() - self._last > IDLE

    def close(self) -> None:
        """Release models and claims; later tasks are skipped."""
        self._closed, self._work = True, None
        self._resources.close()

    def compute(self, unit: Unit, told: Told) -> UnitResult:
        """Compute a unit, unless another process has claimed or finished it.

        `told` hears how far it is.
        """
        self._active.add(unit.name)
        try:
            with self._slots:
                return self._claim_and_compute(unit, told)
        except AbsError as error:
            if _is_local(error.__cause__):
                return UnitResult.failure(str(error))
            return UnitResult(State.STOP, str(error), error.exit_code)
        except Exception as error:  # raised by loading, which may succeed on another worker
            return UnitResult.failure(error, traceback.format_exc())
        finally:
            self._active.discard(unit.name)
            self._last = time.monotonic()

    def _claim_and_compute(self, unit: Unit, told: Told) -> UnitResult:
        seconds: Seconds = {}
        if self._work is None:
            told(unit.name, LOAD, 0.0)
        work, start = self._load(seconds), time.perf_counter()
        if work is None or not work.claim(unit):
            return UnitResult(State.SKIPPED, seconds=seconds)
        result = self._run_steps(work, unit, told)
        result.seconds |= seconds
        result.elapsed = time.perf_counter() - start
        return result

    def _load(self, seconds: Seconds) -> UnitWork | None:
        """Return the loaded stage, or None if it was released meanwhile."""
        with self._loading:
            if self._work is None and not self._closed:
                start = time.perf_counter()
                stage, store = self.spec.build()
                loading = UnitWork.load(stage, store, self.spec.sharing_at(self.address))
                self._work = self._resources.enter_context(loading)
                seconds["load"] = time.perf_counter() - start
            if self._closed:  # while it was loading
                self.close()
            return self._work

    def _run_steps(self, work: UnitWork, unit: Unit, told: Told) -> UnitResult:
        results: list[UnitResult] = []
        with work.errors(unit, lambda error: results.append(UnitResult.failure(error))):
            with self._reading:
                inputs, spent = work.read(unit, told)
            with _torch_threads(self.spec.threads):
                outputs = work.compute(unit, inputs, spent, told)
            work.write(unit, outputs, spent)
            results.append(UnitResult(State.DONE, seconds=spent.steps))
        return results[0]


_computing = threading.Lock()


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Compute exclusively in this process, with a given number of torch threads.

    Torch keeps that number partly per process and partly per calling thread, so it is set in every
    Dask thread before use.
    """
    import torch

    with _computing:
        torch.set_num_threads(threads)
        yield


_stages: dict[str, LoadedStage] = {}
"""The loaded stage of each run, by the run's name."""
_stages_lock = threading.Lock()
_closing = threading.Event()
"""Set once this process is out of memory and about to be restarted by its nanny."""


def compute_units(spec: StageSpec, units: Sequence[Unit]) -> list[UnitResult]:
    """Compute units one after the other; the function that is submitted to Dask.

    Returns the results of the first ones, as many as were computed within AT_ONCE seconds; that is
    one at least. An error that every unit would meet ends the list too.
    """
    results, start = [], time.monotonic()
    for unit in units:
        results.append(_compute_unit(spec, unit))
        if time.monotonic() - start > AT_ONCE or results[-1].state == State.STOP:
            break
    return results


def _compute_unit(spec: StageSpec, unit: Unit) -> UnitResult:
    worker = get_worker()
    if _closing.is_set():
        return UnitResult(State.SKIPPED, worker=worker.address)
    told = teller(worker, spec.run, spec.stage)
    result = _stage_of(spec, worker.address).compute(unit, told)
    result.worker = worker.address
    if result.out_of_memory and not _closing.is_set():
        _closing.set()
        close = partial(worker.close_gracefully, restart=True)  # the nanny starts a new process
        later = worker.loop.call_later, 0.2, close  # after this result has been sent
        worker.loop.add_callback(*later)
    return result


def release(run: str) -> None:
    """Release the loaded stage of a run that has finished with it."""
    with _stages_lock:
        if run in _stages:
            _stages.pop(run).close()


def _stage_of(spec: StageSpec, address: str = "") -> LoadedStage:
    """Return the loaded stage of `spec`; release the run's previous stage and idle stages."""
    with _stages_lock:
        if spec.run not in _stages or _stages[spec.run].spec != spec:
            for run in [run for run, s in _stages.items() if run == spec.run or s.idle]:
                _stages.pop(run).close()
            _stages[spec.run] = LoadedStage(spec, address)
        return _stages[spec.run]


def _is_local(error: BaseException | None) -> bool:
    """Return whether an error may be this machine's alone, so that another worker may succeed."""
    return isinstance(error, OSError) and error.errno not in STORE_FULL
