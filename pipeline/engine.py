"""Where units are done: what the runner asks of an engine, whichever it is.

A unit depends only on its inputs and writes only files of its own, so that it may be done in this
process, or in any other that sees the store.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.artifact import Artifact
from pipeline.errors import ConfigError
from pipeline.stage import Stage, Unit
from pipeline.store import Store

MAX_FAILURES = 3
"""So many failed units stop a stage of which none goes through: it will not mend itself."""


@dataclass(frozen=True)
class Job:
    """A stage to be made."""

    stage: Stage
    store: Store
    settings: Any

    @property
    def artifact(self) -> Artifact:
        """Where its units are written."""
        return self.store.artifact(self.stage)


class Done(NamedTuple):
    """A unit that has its receipt."""

    unit: Unit
    who: str = ""
    """Which of several workers wrote it."""


class Failed(NamedTuple):
    """A unit that raised, and what; its traceback is in the store."""

    unit: Unit
    error: str


class Session(ABC):
    """A stage that is open: its units can be done."""

    def __init__(self) -> None:
        self.clocks = dict.fromkeys(("load", "read", "compute", "write", "wait"), 0.0)
        """Seconds, of all workers together."""
        self.failed: list[Failed] = []
        self.any_done = False
        """Whether any unit could be computed."""

    @property
    def hopeless(self) -> bool:
        """Whether it is no use to try the other units."""
        return len(self.failed) >= MAX_FAILURES and not self.any_done

    @abstractmethod
    def turn(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Do each of `todo` that no other process is at; yields those that went through."""

    def count(self, seconds: Mapping[str, float]) -> None:
        """Add to the clocks."""
        for name, value in seconds.items():
            self.clocks[name] += value


@dataclass(frozen=True)
class Part:
    """The share of one of several processes that follow the same plan."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """`3/16`; ConfigError for anything else."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--part {text!r}: write the number of a part and how many: 3/16")
        return cls(int(found[1]), int(found[2]))

    def order(self, units: list[Unit]) -> list[Unit]:
        """This part's units first; then, from the end, what the others may not come to."""
        mine = range(self.number - 1, len(units), self.of)
        others = (i for i in reversed(range(len(units))) if i not in mine)
        return [units[i] for i in (*mine, *others)]


class Engine(ABC):
    """Opens stages, one after the other. To be closed in the end."""

    def __init__(self, part: Part | None = None) -> None:
        self.part = part or Part()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        return

    @abstractmethod
    def open(self, job: Job) -> AbstractContextManager[Session]:
        """What the units of a stage need, for as long as the block runs."""
