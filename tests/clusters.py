"""Real clusters for tests: processes as a user starts them, and what can be done to them."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from distributed import Client

from pipeline.cluster import Cluster
from pipeline.link import scheduler_at
from pipeline.local_cluster import workers_here
from pipeline.progress import Reporter
from pipeline.stage import Unit
from tests.conftest import ROOT


def here(workers: int) -> Cluster:
    """The engine of `--workers`."""
    return Cluster(partial(workers_here, workers, Reporter()))


def there(address: str) -> Cluster:
    """That of `--scheduler`."""
    return Cluster(partial(scheduler_at, address, Reporter()))


DASK = Path(sys.executable).with_name("dask")


def environment() -> dict[str, str]:
    """In which processes find this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(*words: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block, and what it starts with it."""
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
    """`dask scheduler`: its address, and the process."""
    port = free_port()
    words = "scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0"
    with process(str(DASK), *words, folder=folder) as started:
        yield f"tcp://127.0.0.1:{port}", started


@contextmanager
def started(folder: Path, workers: int = 2) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same with `dask worker`s, once they have joined it."""
    with ExitStack() as held:
        address, of_scheduler = held.enter_context(scheduler(folder))
        for _ in range(workers):
            words = "worker", address, "--nthreads", "3", "--no-dashboard"
            held.enter_context(process(str(DASK), *words, folder=folder))
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, of_scheduler


def answers(address: str) -> bool:
    """Whether somebody listens at `tcp://host:port`."""
    host, _, port = address.removeprefix("tcp://").partition(":")
    with socket.socket() as found:
        return found.connect_ex((host, int(port))) == 0


def meddle(where: str, seconds: float = 0.0, unit: str = "", error: str = "") -> None:
    """In a worker: from now on units of a class take so long, and one of them raises."""
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
    """All workers meddled with, for as long as they live or the block runs."""
    with Client(address, timeout=5, set_as_default=False) as client:
        client.run(meddle, where, **how)
        try:
            yield client
        finally:
            if client.status == "running":
                client.run(meddle, where)


def once(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What a condition gives as soon as it gives something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError
