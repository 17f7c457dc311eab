"""The steps of a unit in any engine: claim, read, compute, write, commit the receipt.

The failure of a unit is recorded and never cached. An error that every other unit would meet too (a
wrong setting, a full disk, no permission) is an AbsError and stops the stage at once.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.core.code import code_of
from pipeline.core.errors import AbsError
from pipeline.core.under_way import COMPUTE, READ, heard
from pipeline.stage import Stage, Worker, refuse_changed
from pipeline.store.claims import Claims
from pipeline.store.store import Store
from pipeline.store.units import Unit
from pipeline.store.writer import ArtifactWriter, store_error

if TYPE_CHECKING:
    from pipeline.store.units import Output

Seconds = dict[str, float]
Told = Callable[[str, str, float], None]
"""Function of a unit's name, a step, and the share of it that is done."""


@dataclass
class Spent:
    """Seconds of a unit by step (read, compute, write), and those of scoring by method."""

    steps: Seconds = field(default_factory=dict)
    by_method: Seconds = field(default_factory=dict)


@dataclass(frozen=True)
class UnitWork:
    """A loaded stage, and the claims of this process on its units."""

    worker: Worker
    writer: ArtifactWriter
    claims: Claims
    code: str
    sharing: int | None = None
    """Number of processes of the run on this machine, if it is known."""

    @classmethod
    @contextmanager
    def load(cls, stage: Stage, store: Store, sharing: int | None = None) -> Iterator[UnitWork]:
        """Load a stage and create its arrays; safe in several processes at once."""
        worker, writer = stage.worker(store), ArtifactWriter(store.artifact(stage))
        refuse_changed(stage)
        for spec in worker.arrays():
            writer.create(spec)
        with Claims(writer.path / "claims") as claims:
            yield cls(worker, writer, claims, code_of(stage), sharing)

    def claim(self, unit: Unit) -> bool:
        """Claim a unit. Return False if another process has claimed or finished it."""
        if not self.claims.take(unit.name):
            return False
        if self.writer.artifact.ledger.is_finished(unit.name):  # only a claim keeps the answer true
            self.claims.release(unit.name)
            return False
        return True

    def read(self, unit: Unit, told: Told) -> tuple[Any, Spent]:
        """Read the inputs of a unit; return them with the seconds that took."""
        spent = Spent()
        with _timed("read", spent.steps), _telling(told, unit, READ):
            return self.worker.read(unit), spent

    def compute(self, unit: Unit, inputs: Any, spent: Spent, told: Told) -> dict[str, Output]:
        """Compute the outputs of a unit; add the time to `spent`."""
        with _timed("compute", spent.steps), _telling(told, unit, COMPUTE):
            outputs = self.worker.compute(unit, inputs)
        spent.by_method = self.worker.by_method()
        return outputs

    def write(self, unit: Unit, outputs: dict[str, Output], spent: Spent) -> None:
        """Write the outputs, commit the receipt, and release the claim."""
        with _timed("write", spent.steps):
            written = self.writer.write(unit, outputs)
        rows = len(next(iter(outputs.values())))
        self.writer.commit(unit, rows, written, spent.steps, self._maker(), spent.by_method)
        self.claims.release(unit.name)

    def _maker(self) -> dict[str, Any]:
        process: dict[str, Any] = {"host": os.uname().nodename, "pid": os.getpid()}
        process |= {"sharing": self.sharing} if self.sharing else {}
        return {**process, "code": self.code, **self.worker.environment()}

    @contextmanager
    def errors(self, unit: Unit, failed: Callable[[Exception], None]) -> Iterator[None]:
        """Record an error of one unit and call `failed`; re-raise errors that stop the stage."""
        try:
            yield
        except Exception as error:
            self.claims.release(unit.name)
            if isinstance(error, AbsError):
                raise
            if isinstance(error, OSError):
                raise store_error(error, self.writer.artifact) from error
            self.writer.fail(unit, traceback.format_exc())
            failed(error)


@contextmanager
def _telling(told: Told, unit: Unit, step: str) -> Iterator[None]:
    """Tell how far a step of a unit is, from its beginning to its end."""
    told(unit.name, step, 0.0)
    with heard(lambda share: told(unit.name, step, share)):
        yield
    told(unit.name, step, 1.0)


@contextmanager
def _timed(name: str, seconds: Seconds) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
