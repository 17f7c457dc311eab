"""The engine of many processes: Dask distributed, a future per unit, on this machine or elsewhere.

The driver plans, hands out units and reads their receipts; it loads no model, and no array passes
it or the scheduler. Claims keep the workers apart, also from those of other runs.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.claims import living
from pipeline.code import code_of
from pipeline.engine import Done, Engine, Failed, Job, Part, Session
from pipeline.errors import AbsError
from pipeline.local_cluster import SILENT, started
from pipeline.progress import Reporter
from pipeline.stage import Unit

if TYPE_CHECKING:
    from distributed import Client, Future

    from pipeline.cluster_worker import Answer, Recipe

ATTEMPTS = 3
"""Times that a unit is tried before it is given up: until it raises, or has cost as many workers as
Dask allows."""

PATIENCE = 20
"""Seconds for a scheduler to answer."""


class Cluster(Engine):
    """`workers` processes of this machine, or those of a scheduler that is running."""

    def __init__(self, workers: int | None, scheduler: str | None, part: Part | None) -> None:
        super().__init__(part)
        self._workers, self._scheduler = workers, scheduler
        self._client: Client | None = None
        self._held, self._run = ExitStack(), uuid.uuid4().hex

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @contextmanager
    def open(self, job: Job, reporter: Reporter) -> Iterator[Session]:
        """Tell the workers which stage it is; each loads it with its first unit."""
        from pipeline.cluster_worker import StagePlugin

        client = self._client = self._client or self._connected(job, reporter)
        name = f"{job.stage.name}-{job.stage.key}-{uuid.uuid4().hex[:8]}"
        with self._lost():
            _announced(client, StagePlugin(recipe_of(job, self._run)), name)
        try:
            yield Turns(client, job, name, self._lost)
        finally:
            if client.status == "running":
                with suppress(Exception):
                    client.unregister_worker_plugin(name)

    def _connected(self, job: Job, reporter: Reporter) -> Client:
        """Once, when the first stage has something to do."""
        from distributed import Client

        _silence()
        address: Any = self._scheduler or self._held.enter_context(
            started(self._workers or 1, job.settings.runtime.device)
        )
        with self._lost(f"no scheduler answers at {self._scheduler}"):
            client = Client(address, timeout=PATIENCE, set_as_default=False)
        self._held.callback(_close, client)
        reporter.say(f"dashboard: {client.dashboard_link}")
        client.subscribe_topic("all", lambda event: _tell_of_death(event[1], reporter))
        if not client.ncores():
            reporter.say(f"no worker has joined {self._scheduler} yet: waiting for one")
        return client

    @contextmanager
    def _lost(self, what: str = "") -> Iterator[None]:
        """What goes wrong with the scheduler, in one line."""
        from distributed import CancelledError

        try:
            yield
        except Exception as error:
            gone = self._client is not None and self._client.status != "running"
            if isinstance(error, AbsError) or not (
                gone or isinstance(error, OSError | CancelledError)
            ):
                raise
            what = what or f"the scheduler at {self._scheduler or 'this machine'} is gone"
            raise AbsError(
                f"{what}; finished units are kept, and the same command without --scheduler goes "
                "on in this process"
            ) from error


class Turns(Session):
    """A stage whose units are futures."""

    def __init__(self, client: Client, job: Job, plugin: str, lost: Any) -> None:
        super().__init__()
        self._client, self._job, self._plugin, self._lost = client, job, plugin, lost
        self._tried: dict[str, list[str]] = {}
        """The workers that each unit has failed on."""
        self._submitted: Counter[str] = Counter()

    def turn(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Each that is free, in whatever order workers finish them."""
        from distributed import as_completed

        taken = {claim.unit for claim in living(self._job.artifact.path / "claims")}
        with self._lost():
            units = {self._submit(unit): unit for unit in todo if unit.name not in taken}
        pending = as_completed(units, loop=self._client.loop, with_results=True, raise_errors=False)
        try:
            for future, result in pending:
                unit = units.pop(future)
                answer = self._answer(future, result)
                self.count(answer.seconds)
                if answer.state == "stop":
                    raise _stop(answer)
                if answer.state == "done":
                    yield Done(unit, answer.who)
                elif answer.state == "failed" and self._again(unit, answer):
                    with self._lost():
                        again = self._submit(unit)
                    units[again] = unit
                    pending.add(again)
                if self.hopeless:
                    return
        finally:
            if units and self._client.status == "running":
                self._client.cancel(list(units))

    def _submit(self, unit: Unit) -> Future[Answer]:
        """Ask for a unit, and rather not where it has failed."""
        from pipeline.cluster_worker import do

        self._submitted[unit.name] += 1
        key = (self._plugin, unit.name, self._submitted[unit.name])
        where: dict[str, Any] = {}
        if tried := self._tried.get(unit.name):
            others = [each for each in self._client.ncores() if each not in tried]
            where = {"workers": others, "allow_other_workers": True} if others else {}
        return self._client.submit(do, self._plugin, unit, key=key, pure=False, **where)

    def _answer(self, future: Future[Answer], result: Any) -> Answer:
        from distributed import CancelledError, KilledWorker

        from pipeline.cluster_worker import Answer

        if isinstance(result, Answer):
            return result
        with self._lost():
            if future.status != "error":
                raise CancelledError(future.key)
        error = future.exception()
        if isinstance(error, KilledWorker):
            text = "the processes that were at it died: killed, or out of memory"
            return Answer("failed", text, traceback=text, who=error.last_worker.address)
        text = f"{type(error).__name__}: {error}"
        return Answer("failed", text, traceback=text)

    def _again(self, unit: Unit, answer: Answer) -> bool:
        """Whether a unit that failed is to be tried once more."""
        if answer.traceback:
            self._job.artifact.fail(unit, answer.traceback)
        tried = self._tried.setdefault(unit.name, [])
        tried.append(answer.who)
        if len(tried) < ATTEMPTS:
            return True
        self.failed.append(Failed(unit, answer.error))
        return False


def recipe_of(job: Job, run: str) -> Recipe:
    """What workers rebuild a stage from.

    They compute with as many threads as this process would, since another number may round
    otherwise, and look for files where this process does.
    """
    import torch

    from pipeline.cluster_worker import Recipe

    s = job.settings
    runtime = s.runtime.model_copy(update={"threads": s.runtime.threads or torch.get_num_threads()})
    settled = s.model_copy(update={"runtime": runtime, "paths": s.paths.absolute()})
    stage = job.stage
    return Recipe(
        settled.model_dump_json(), job.store.options, stage.name, stage.key, code_of(stage), run
    )


def _stop(answer: Answer) -> AbsError:
    error = AbsError(f"{answer.error} (worker {answer.who})")
    error.exit_code = answer.exit_code
    return error


def _tell_of_death(event: dict[str, Any], reporter: Reporter) -> None:
    if event.get("action") == "remove-worker" and not event.get("expected"):
        lost = len(event.get("processing-tasks", ()))
        reporter.say(f"worker {event['worker']} died; the {lost} units it had go elsewhere")


def _announced(client: Client, plugin: Any, name: str) -> None:
    """Have all workers know the stage, those included that join later."""
    try:
        client.register_plugin(plugin, name)
    except Exception as error:
        if client.status != "running" or isinstance(error, OSError):
            raise
        raise AbsError(f"workers that have another version of this project: {error}") from None


def _silence() -> None:
    """Dask's own account, tracebacks included, of what is said in a line of ours."""
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(SILENT)


def _close(client: Client) -> None:
    with suppress(Exception):
        if client.status == "running":
            client.unsubscribe_topic("all")
        client.close(timeout=5)
