"""Real Dask clusters for tests, started as a user starts them, and faults to inject into them."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from distributed import Client

from pipeline.core.progress import Reporter
from pipeline.engine.dask.client import scheduler_at
from pipeline.engine.dask.driver import Cluster
from pipeline.engine.dask.local import workers_here
from pipeline.engine.runner import Outcome, run_stage
from pipeline.run import Run, rebuild
from pipeline.stage import Stage
from pipeline.store.claims import living
from pipeline.store.units import Unit
from tests.helpers.runs import ROOT


def here(workers: int) -> Cluster:
    """Return the engine of `--workers`."""
    return Cluster(partial(workers_here, workers, Reporter()), rebuild, workers=workers)


def there(address: str) -> Cluster:
    """Return the engine of `--scheduler`."""
    return Cluster(partial(scheduler_at, address, Reporter()), rebuild)


DASK = Path(sys.executable).with_name("dask")
FORKING = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
"""Settings of `dask worker` with which its processes share their imports, which a nanny loads."""


def environment() -> dict[str, str]:
    """Return environment variables with which processes import this checkout."""
    return {**os.environ, **FORKING, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(*words: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and terminate it at the end of the block."""
    with open(folder / "log", "ab") as log:
        started = subprocess.Popen(
            words, stdout=log, stderr=log, cwd=folder, env=environment(), start_new_session=True
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start `dask scheduler`; yield its address and process."""
    port = free_port()
    words = "scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0"
    with process(str(DASK), *words, folder=folder) as started:
        yield f"tcp://127.0.0.1:{port}", started


@contextmanager
def started(folder: Path, workers: int = 2) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start `dask scheduler` and `dask worker`; yield once all workers have connected."""
    count = "--nworkers", str(workers)
    with scheduler(folder) as (address, of_scheduler):
        words = ["worker", address, *count, "--nthreads", "3", "--no-dashboard"]
        words += ["--preload-nanny", "tests.helpers.forking"]
        with process(str(DASK), *words, folder=folder):
            with Client(address, timeout=60, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)
            yield address, of_scheduler


def answers(address: str) -> bool:
    """Return True if a process listens at `tcp://host:port`."""
    host, _, port = address.removeprefix("tcp://").partition(":")
    with socket.socket() as found:
        return found.connect_ex((host, int(port))) == 0


def meddle(where: str, seconds: float = 0.0, unit: str = "", error: str = "") -> None:
    """Patch a worker class in this process: units take `seconds` longer, and `unit` raises `error`.

    `where` is "module:class". Without other arguments the original method is restored.
    """
    module, _, name = where.partition(":")
    kind = getattr(import_module(module), name)
    real = kind.__dict__.get("untouched", kind.compute)

    def compute(self: Any, given: Unit, inputs: Any) -> Any:
        time.sleep(seconds)
        if given.name == unit:
            raise getattr(builtins, error)("a cosmic ray")
        return real(self, given, inputs)

    kind.untouched, kind.compute = real, compute


@contextmanager
def meddled(address: str, where: str, **how: Any) -> Iterator[Client]:
    """Call `meddle` on all workers, and undo it at the end of the block."""
    with Client(address, timeout=5, set_as_default=False) as client:
        client.run(meddle, where, **how)
        try:
            yield client
        finally:
            if client.status == "running":
                client.run(meddle, where)


def once(condition: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Wait until a condition returns a true value, and return it; TimeoutError after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError


def again(run: Run, stage: Stage, engine: Cluster, reporter: Reporter | None = None) -> Outcome:
    """Make one stage once more."""
    run.store.artifact(stage).remove()
    return run_stage(stage, run.store, reporter or Reporter(True), run.settings, engine)


def aside(function: Callable[[], Any]) -> Future[Any]:
    """Do something while a stage runs; its result, or its error, is to be asked for."""
    thread = ThreadPoolExecutor(1)
    done = thread.submit(function)
    thread.shutdown(wait=False)
    return done


def worker_at(run: Run, stage: Stage) -> int:
    """A process that is at a unit of a stage."""
    return int(once(lambda: pids_at(run, stage))[0])


def pids_at(run: Run, stage: Stage) -> list[int]:
    """The other processes that are at units of a stage."""
    here = 0, os.getpid()  # 0: a claim that is being written
    claims = living(run.store.artifact(stage).path / "claims")
    return [claim.pid for claim in claims if claim.pid not in here]


def is_stopped(process: psutil.Process) -> bool:
    """Whether a process that was sent SIGSTOP has stopped."""
    return process.status() == psutil.STATUS_STOPPED


def kill_at_a_unit(run: Run, stage: Stage) -> None:
    """Kill a process that is at a unit of a stage; stop it first, so that it stays there."""
    while True:
        process = psutil.Process(worker_at(run, stage))
        process.suspend()
        once(partial(is_stopped, process))
        if process.pid in pids_at(run, stage):
            return process.kill()
        process.resume()
