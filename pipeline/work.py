"""The work on a unit, wherever it is done: claim, read, compute, write, receipt.

A unit's failure is recorded and never cached. What cannot mend itself with another unit (a setting,
a full disk, no permission) is an AbsError and stops the stage at once.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artifact import Artifact
from pipeline.claims import Claims
from pipeline.code import code_of
from pipeline.errors import AbsError
from pipeline.identity import digest
from pipeline.stage import Stage, Unit, Worker
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.stage import Output

Seconds = dict[str, float]


@dataclass(frozen=True)
class Work:
    """A stage that is loaded, and the claims of this process on its units."""

    worker: Worker
    artifact: Artifact
    claims: Claims
    code: str

    @classmethod
    @contextmanager
    def on(cls, stage: Stage, store: Store) -> Iterator[Work]:
        """Load a stage and make its arrays, which several processes may do at once."""
        worker, artifact = stage.worker(store), store.artifact(stage)
        refuse_changed(stage)
        for spec in worker.arrays():
            artifact.create(spec)
        with Claims(artifact.path / "claims") as claims:
            yield cls(worker, artifact, claims, code_of(stage))

    def take(self, unit: Unit) -> bool:
        """Claim a unit, unless another process is at it or has finished it."""
        if self.artifact.finished([unit]) or not self.claims.take(unit.name):
            return False
        if self.artifact.finished([unit]):
            self.claims.release(unit.name)  # another process was faster
            return False
        return True

    def read(self, unit: Unit) -> tuple[Any, Seconds]:
        """What the unit is computed from."""
        seconds: Seconds = {}
        with _timed("read", seconds):
            return self.worker.read(unit), seconds

    def compute(self, unit: Unit, inputs: Any, seconds: Seconds) -> dict[str, Output]:
        """Its outputs."""
        with _timed("compute", seconds):
            return self.worker.compute(unit, inputs)

    def write(self, unit: Unit, outputs: dict[str, Output], seconds: Seconds) -> None:
        """Write them, then the receipt."""
        with _timed("write", seconds):
            written = self.artifact.write(unit, outputs)
        rows = len(next(iter(outputs.values())))
        self.artifact.commit(unit, rows, written, seconds, self._maker())
        self.claims.release(unit.name)

    def _maker(self) -> dict[str, Any]:
        process = {"host": os.uname().nodename, "pid": os.getpid()}
        return {**process, "code": self.code, **self.worker.facts()}

    @contextmanager
    def errors(self, unit: Unit, failed: Callable[[Exception], None]) -> Iterator[None]:
        """Errors of one unit: those that stop the stage go through, others are recorded."""
        try:
            yield
        except Exception as error:
            self.claims.release(unit.name)
            if isinstance(error, AbsError):
                raise
            if isinstance(error, OSError):
                raise store_error(error, self.artifact) from error
            self.artifact.fail(unit, traceback.format_exc())
            failed(error)


@contextmanager
def _timed(name: str, seconds: Seconds) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def refuse_changed(stage: Stage) -> None:
    """AbsError if a file from outside is another one than when the key was made."""
    if digest(stage.identity()) != stage.key:
        raise AbsError(
            f"{stage.name}: a file that it reads (weights, texts, images) changed while it ran; "
            "run the same command again"
        )


def store_error(error: OSError, artifact: Artifact) -> AbsError:
    """An error of the store itself, in one line."""
    where = error.filename or artifact.path
    return AbsError(
        f"{error.strerror or error}: {where}; finished units are kept; check path, permissions, "
        "space left, and run the same command again"
    )


def told(error: Exception) -> str:
    """An exception in one line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
