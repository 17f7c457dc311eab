"""Client side of the Dask engine: the connection to a scheduler, and the tasks submitted to it.

A connection that fails or breaks raises Unreachable, with a message of one line.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from distributed import CancelledError, Client, Future, KilledWorker, Security, as_completed
from distributed.core import rpc

from pipeline.core.errors import Unreachable, one_line
from pipeline.core.progress import Reporter
from pipeline.core.words import counted
from pipeline.engine.dask.under_way import TOPIC
from pipeline.engine.dask.worker import StageSpec, UnitResult, compute_units, host_of, release
from pipeline.store.units import Unit

if TYPE_CHECKING:
    from pipeline.core.runtime import Runtime

    Task = Future[list[UnitResult]]

CONNECT_TIMEOUT = 20
"""Seconds to wait for a scheduler to answer."""

CHECK_WORKERS = 10.0
"""Seconds between two checks that some worker is running."""

SILENT = logging.CRITICAL + 1
"""Logging level above every message."""


class Connection:
    """Client of a Dask scheduler. Create it with `connected`."""

    def __init__(self, client: Client, option: str, name: str) -> None:
        self.client = client
        self._option, self._name = option, name

    def hear_units(self, hear: Callable[[Any], None]) -> None:
        """Call `hear`, and nothing else, with each event that tells how far a unit is."""
        with self.errors():
            self.client.subscribe_topic(TOPIC, hear)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of a broken connection into Unreachable."""
        try:
            yield
        except (OSError, CancelledError) as error:
            raise Unreachable(
                f"lost the connection to {self._name}; finished units are kept; the same command "
                f"without {self._option} computes the others in this process"
            ) from error

    def worker_states(self) -> dict[str, str]:
        """Return the status of each worker (`running`, `paused`, ...) by its address."""
        return {address: worker["status"] for address, worker in self._workers().items()}

    def threads(self) -> int:
        """Return the number of tasks that all workers can be at together."""
        with self.errors():
            return sum(worker["nthreads"] for worker in self._workers().values())

    def _workers(self) -> dict[str, Any]:
        scheduler: Any = self.client.scheduler
        return dict(self._result(scheduler.identity())["workers"])

    def workers_by_host(self) -> Counter[str]:
        """Count the workers of each host, by their address without its port."""
        with self.errors():
            return Counter(map(host_of, self.worker_states()))

    def gather(self, futures: list[Task]) -> list[list[UnitResult]]:
        """Return the results of finished futures."""
        return list(self._result(self.client.gather(futures, asynchronous=True)))

    def release(self, run: str) -> None:
        """Release the loaded stage of a run on all workers; errors are ignored."""
        with suppress(Exception):
            if self.client.status == "running":
                request = self.client.run(release, run, on_error="ignore", asynchronous=True)
                wait([self._start(request)], timeout=5)

    def _result(self, request: Any) -> Any:
        """Wait for a coroutine of the client; raise CancelledError if the connection breaks."""
        future = self._start(request)
        while not wait([future], timeout=0.2).done:
            if self.client.status != "running":
                future.cancel()
                raise CancelledError
        return future.result()

    def _start(self, request: Any) -> concurrent.futures.Future[Any]:
        loop: Any = self.client.loop
        return asyncio.run_coroutine_threadsafe(request, loop.asyncio_loop)


class PendingTasks:
    """Submitted tasks that are not done, and the units of each."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        self._units: dict[Task, list[Unit]] = {}
        self._completed = as_completed(loop=connection.client.loop)
        self._submitted = 0

    def __len__(self) -> int:
        return len(self._units)

    def submit(self, spec: StageSpec, units: list[Unit], avoid: list[str]) -> None:
        """Submit a task of some units, preferably to a worker that is not in `avoid`."""
        self._submitted += 1
        client, where = self._connection.client, {}
        with self._connection.errors():
            if client.status != "running":
                raise CancelledError
            workers = self._connection.worker_states() if avoid else {}
            if preferred := [address for address in workers if address not in avoid]:
                where = {"workers": preferred, "allow_other_workers": True}
            key = (self._prefix, units[0].name, self._submitted)
            future = client.submit(compute_units, spec, units, key=key, pure=False, **where)
        self._units[future] = units
        self._completed.add(future)

    def next_results(self) -> list[tuple[list[Unit], list[UnitResult] | UnitResult]]:
        """Wait until at least one task is done; return the units of all that are, with results.

        Of a task that failed as a whole there is one result.
        """
        with self._connection.errors():
            futures = self._completed.next_batch()
            finished = [future for future in futures if future.status == "finished"]
            results: dict[Task, list[UnitResult] | UnitResult] = {}
            results.update(zip(finished, self._connection.gather(finished), strict=True))
            for future in futures:
                if future not in results:
                    results[future] = self._failure(future)
        return [(self._units.pop(future), results[future]) for future in futures]

    def cancel(self) -> None:
        """Cancel all pending futures; errors are ignored."""
        with suppress(Exception):
            if self._units and self._connection.client.status == "running":
                self._connection.client.cancel(list(self._units))

    def _failure(self, future: Task) -> UnitResult:
        """Return the result of a future that was cancelled or whose worker failed."""
        if future.status != "error":
            if self._connection.client.status != "running":
                raise CancelledError(future.key)
            return UnitResult.failure("cancelled on the scheduler")
        error = future.exception()
        if isinstance(error, KilledWorker):
            died = "its worker processes died: killed, or out of memory"
            return UnitResult.failure(died, worker=error.last_worker.address)
        return UnitResult.failure(one_line(error) if error else "failed on the scheduler")


@contextmanager
def connected(target: Any, option: str, name: str, reporter: Reporter) -> Iterator[Connection]:
    """Connect to a scheduler by its address, or to a cluster object of this process.

    `option` is the command line option behind it, and `name` the scheduler's name in messages.
    Raises Unreachable if no scheduler answers.
    """
    for logger in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(logger).setLevel(SILENT)  # the same events are reported in one line here
    try:
        if isinstance(target, str):
            asyncio.run(_check_scheduler(target))
        client = Client(target, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except OSError as error:
        raise Unreachable(
            f"no scheduler answers at {target}; start one, or run the same command without {option}"
        ) from error
    except Exception as error:  # such as a TLS address without certificates
        raise Unreachable(f"{option} {target}: {one_line(error)}") from error
    connection, closed = Connection(client, option, name), threading.Event()
    try:
        reporter.say(f"dashboard: {client.dashboard_link}")
        client.subscribe_topic("all", lambda event: _report_death(event[1], reporter))
        arguments = connection, reporter, closed
        threading.Thread(
            target=_report_no_worker, args=arguments, name="check-workers", daemon=True
        ).start()
        yield connection
    finally:
        closed.set()
        with suppress(Exception):
            if client.status == "running":
                client.unsubscribe_topic("all")
            client.close(timeout=5)


@contextmanager
def scheduler_at(address: str, reporter: Reporter, runtime: Runtime) -> Iterator[Connection]:
    """Connect to a running scheduler (`--scheduler`)."""
    name = f"the scheduler at {address}"
    with connected(address, "--scheduler", name, reporter) as connection:
        yield connection


async def _check_scheduler(address: str) -> None:
    """Check that a Dask scheduler answers; `Client` hangs on any other service on that port."""
    arguments = Security().get_connection_args("client")
    async with rpc(address, connection_args=arguments) as scheduler:
        await asyncio.wait_for(scheduler.identity(), CONNECT_TIMEOUT)


def _report_death(event: dict[str, Any], reporter: Reporter) -> None:
    """Report a worker that left unexpectedly, from an event of the scheduler."""
    if event.get("action") == "remove-worker" and not event.get("expected"):
        tasks = len(event.get("processing-tasks", ()))
        rescheduled = f"; rescheduled: {counted(tasks, 'tasks')}" if tasks else ""
        reporter.say(f"worker {event['worker']} died{rescheduled}")


def _report_no_worker(connection: Connection, reporter: Reporter, closed: threading.Event) -> None:
    """Report, once each time it happens, that no worker is running; ends when `closed` is set."""
    reported, pause = "", 1.0
    while not closed.wait(pause):
        try:
            states = set(connection.worker_states().values())
        except Exception:  # a lost scheduler is reported by the main thread
            continue
        reason = "" if "running" in states else _why_none(states)
        if reason and reason != reported:
            reporter.say(reason)
        reported, pause = reason, CHECK_WORKERS


def _why_none(states: set[str]) -> str:
    if states == {"paused"}:
        return "workers paused by Dask's memory limit; start them with --memory-limit 0"
    return "no Dask worker connected; waiting"
