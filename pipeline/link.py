"""The connection to a Dask scheduler: what is asked of its workers, and what they answer.

What goes wrong with the connection itself is Unreachable, in one line.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from distributed import CancelledError, Client, Future, KilledWorker, Security, as_completed
from distributed.core import rpc

from pipeline.cluster_worker import Answer, Recipe, do, forget
from pipeline.errors import Unreachable
from pipeline.progress import Reporter
from pipeline.stage import Unit
from pipeline.work import told

if TYPE_CHECKING:
    from pipeline.runtime import Runtime

PATIENCE = 20
"""Seconds for a scheduler to answer."""

LOOK_EVERY = 10.0
"""Seconds between two looks at whether there is any worker."""

SILENT = logging.CRITICAL + 1


class Link:
    """A client of a scheduler. To be made by `linked`."""

    def __init__(self, client: Client, option: str, name: str) -> None:
        self.client = client
        self._option, self._name = option, name

    @contextmanager
    def lost(self) -> Iterator[None]:
        """What goes wrong with the connection, in one line."""
        try:
            yield
        except (OSError, CancelledError) as error:
            raise Unreachable(
                f"{self._name} is gone; finished units are kept, and the same command without "
                f"{self._option} goes on in this process"
            ) from error

    def workers(self) -> dict[str, str]:
        """The status of each, by its address."""
        scheduler: Any = self.client.scheduler
        found = self._came(scheduler.identity())["workers"]
        return {address: each["status"] for address, each in found.items()}

    def gathered(self, futures: list[Future[Answer]]) -> list[Answer]:
        """The results of futures that have finished."""
        return list(self._came(self.client.gather(futures, asynchronous=True)))

    def forget(self, run: str) -> None:
        """Have all workers let go of a run's stage, as far as they can be reached."""
        with suppress(Exception):
            if self.client.status == "running":
                request = self.client.run(forget, run, on_error="ignore", asynchronous=True)
                wait([self._begun(request)], timeout=5)

    def _came(self, request: Any) -> Any:
        """What comes of a request, unless the connection breaks before."""
        begun = self._begun(request)
        while not wait([begun], timeout=0.2).done:
            if self.client.status != "running":
                begun.cancel()
                raise CancelledError
        return begun.result()

    def _begun(self, request: Any) -> concurrent.futures.Future[Any]:
        loop: Any = self.client.loop
        return asyncio.run_coroutine_threadsafe(request, loop.asyncio_loop)


class Asked:
    """Units that workers were asked for, until they have answered."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self._name = link, name
        self._units: dict[Future[Answer], Unit] = {}
        self._pending = as_completed(loop=link.client.loop)
        self._count = 0

    def __len__(self) -> int:
        return len(self._units)

    def ask(self, recipe: Recipe, unit: Unit, avoid: list[str]) -> None:
        """For a unit, and rather not the workers in `avoid`."""
        self._count += 1
        client, where = self._link.client, {}
        with self._link.lost():
            if client.status != "running":
                raise CancelledError
            others = [each for each in self._link.workers() if each not in avoid] if avoid else []
            if others:
                where = {"workers": others, "allow_other_workers": True}
            key = (self._name, unit.name, self._count)
            future = client.submit(do, recipe, unit, key=key, pure=False, **where)
        self._units[future] = unit
        self._pending.add(future)

    def answers(self) -> list[tuple[Unit, Answer]]:
        """For as many units as have any, one at least; waits for it."""
        with self._link.lost():
            futures = self._pending.next_batch()
            finished = [each for each in futures if each.status == "finished"]
            found = dict(zip(finished, self._link.gathered(finished), strict=True))
            for future in futures:
                if future not in found:
                    found[future] = self._without_answer(future)
        return [(self._units.pop(future), found[future]) for future in futures]

    def cancel(self) -> None:
        """Nothing of this is wanted any more."""
        with suppress(Exception):
            if self._units and self._link.client.status == "running":
                self._link.client.cancel(list(self._units))

    def _without_answer(self, future: Future[Answer]) -> Answer:
        if future.status != "error":
            if self._link.client.status != "running":
                raise CancelledError(future.key)
            return Answer.failed("it was cancelled on the scheduler")
        error = future.exception()
        if isinstance(error, KilledWorker):
            died = "the processes that were at it died: killed, or out of memory"
            return Answer.failed(died, who=error.last_worker.address)
        return Answer.failed(told(error) if error else "it failed on the scheduler")


@contextmanager
def linked(there: Any, option: str, name: str, reporter: Reporter) -> Iterator[Link]:
    """The link to a scheduler, by its address or a cluster of this process, until the block ends.

    `option` is the one that asked for it, `name` what to call it. Unreachable if nobody answers.
    """
    for each in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(each).setLevel(SILENT)  # Dask's own account of what is said here
    try:
        if isinstance(there, str):
            asyncio.run(_greeted(there))
        client = Client(there, timeout=PATIENCE, set_as_default=False)
    except OSError as error:
        raise Unreachable(
            f"no scheduler answers at {there}; without {option} the same command works in this "
            "process"
        ) from error
    except Exception as error:  # of what its kind of address needs
        raise Unreachable(f"{option} {there}: {told(error)}") from error
    link, over = Link(client, option, name), threading.Event()
    try:
        reporter.say(f"dashboard: {client.dashboard_link}")
        client.subscribe_topic("all", lambda event: _tell_of_death(event[1], reporter))
        words = link, reporter, over
        threading.Thread(target=_look, args=words, name="look", daemon=True).start()
        yield link
    finally:
        over.set()
        with suppress(Exception):
            if client.status == "running":
                client.unsubscribe_topic("all")
            client.close(timeout=5)


@contextmanager
def scheduler_at(address: str, reporter: Reporter, runtime: Runtime) -> Iterator[Link]:
    """The link to a scheduler that is running."""
    name = f"the scheduler at {address}"
    with linked(address, "--scheduler", name, reporter) as link:
        yield link


async def _greeted(address: str) -> None:
    """A scheduler is there; else any of many errors. A client would wait for ever for what else
    may listen."""
    known = Security().get_connection_args("client")
    async with rpc(address, connection_args=known) as there:
        await asyncio.wait_for(there.identity(), PATIENCE)


def _tell_of_death(event: dict[str, Any], reporter: Reporter) -> None:
    if event.get("action") == "remove-worker" and not event.get("expected"):
        lost = len(event.get("processing-tasks", ()))
        elsewhere = f"; the {lost} units it had go elsewhere" if lost else ""
        reporter.say(f"worker {event['worker']} died{elsewhere}")


def _look(link: Link, reporter: Reporter, over: threading.Event) -> None:
    """Say that no worker works, whenever that has become so."""
    said, pause = "", 1.0
    while not over.wait(pause):
        try:
            states = set(link.workers().values())
        except Exception:  # without a scheduler others will say so
            continue
        why = "" if "running" in states else _why_none(states)
        if why and why != said:
            reporter.say(why)
        said, pause = why, LOOK_EVERY


def _why_none(states: set[str]) -> str:
    if states == {"paused"}:
        return "all workers are paused, as Dask finds their memory full: start them without a limit"
    return "no worker is there: waiting for one"
