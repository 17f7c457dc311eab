"""Interface of the engines: an engine opens a stage, and the session computes its units.

A unit depends only on its inputs and writes only its own files. It can therefore be computed in
this process, or in any other process that has access to the store.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.core.errors import ConfigError
from pipeline.core.under_way import UnderWay
from pipeline.stage import Stage
from pipeline.store.artifact import Artifact
from pipeline.store.store import Store
from pipeline.store.units import Unit

Rebuild = Callable[[str], tuple[Store, Sequence[Stage]]]
"""Function from settings as JSON to the store and all stages; pickled by its qualified name."""

MAX_FAILURES = 3
"""Number of failed units after which a stage is given up, if no unit has succeeded."""


@dataclass(frozen=True)
class Job:
    """A stage to be computed, the store that receives it, and the settings of the run."""

    stage: Stage
    store: Store
    settings: Any

    @property
    def artifact(self) -> Artifact:
        """The artifact that the units are written to."""
        return self.store.artifact(self.stage)


class Done(NamedTuple):
    """A unit that has its receipt."""

    unit: Unit
    worker: str = ""
    """Address of the Dask worker that wrote it; empty if there is only one process."""


class Failed(NamedTuple):
    """A unit that raised, and its error in one line; the traceback is in the store."""

    unit: Unit
    error: str


class Session(ABC):
    """An open stage, whose units can be computed."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("load", "read", "compute", "write", "wait"), 0.0)
        """Seconds spent in each step, summed over all workers."""
        self.failed: list[Failed] = []
        self.any_computed = False
        """True once a unit was computed."""
        self.under_way = UnderWay()
        """Units under way, for progress."""

    @property
    def should_abort(self) -> bool:
        """True if the stage should be given up: MAX_FAILURES units failed and none succeeded."""
        return len(self.failed) >= MAX_FAILURES and not self.any_computed

    @abstractmethod
    def compute(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Compute the units of `todo` that no other process has claimed; yield the finished ones.

        Failures are appended to `failed`.
        """

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add to `seconds`, step by step."""
        for step, value in seconds.items():
            self.seconds[step] += value


@dataclass(frozen=True)
class Part:
    """Share number `number` of `of` processes that run the same plan (`--part 3/16`)."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """Parse `3/16`. Raises ConfigError for anything else."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--part {text!r}: expected NUMBER/COUNT, such as 3/16")
        return cls(int(match[1]), int(match[2]))

    def order(self, units: Sequence[Unit]) -> list[Unit]:
        """Return this part's units first, then the units of the other parts from the end."""
        own = range(self.number - 1, len(units), self.of)
        others = (i for i in reversed(range(len(units))) if i not in own)
        return [units[i] for i in (*own, *others)]


class Engine(ABC):
    """Opens stages one after the other. A context manager: leaving it stops the workers."""

    def __init__(self, part: Part | None = None) -> None:
        self.part = part or Part()

    @property
    def sharing(self) -> int | None:
        """Number of processes of this run on this machine; None if others, elsewhere or here, take
        part too.
        """
        return 1 if self.part.of == 1 else None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        return

    @abstractmethod
    def open(self, job: Job) -> AbstractContextManager[Session]:
        """Return a context manager that holds whatever the units of a stage need."""
