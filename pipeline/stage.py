"""What a stage is: a frozen value whose fields are everything that decides its output.

The key is derived from the fields, so nothing can be left out of it by forgetting: a section
counts with every field not marked runtime, an upstream stage with its key, an outside input
with its digest. A field of any other kind is refused.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from pipeline.core.errors import AbsError
from pipeline.core.hashing import SCHEMA, digest
from pipeline.core.section import NOT_IN_KEY, Section
from pipeline.store.artifact import Artifact
from pipeline.store.store import Store
from pipeline.store.units import ArraySpec, Footprint, Unit

if TYPE_CHECKING:
    from pipeline.store.units import Output


@runtime_checkable
class ExternalInput(Protocol):
    """An input from outside the store (weights, prompt files, a dataset), known by its digest."""

    def identity(self) -> dict[str, Any]:
        """What the key takes of this input, as JSON types."""
        ...


class Worker(ABC):
    """Holds what is costly to load, and does one unit at a time: read, then compute."""

    def arrays(self) -> list[ArraySpec]:
        """The arrays that the outputs of `compute` are written to."""
        return []

    def environment(self) -> dict[str, Any]:
        """What values may depend on by float rounding and is in no key: device, batch size."""
        return {}

    def disable_reuse(self) -> None:
        """From now on make anew also what equals something that is stored already."""
        return

    def read(self, unit: Unit) -> Any:
        """Everything `compute` needs of the unit, in a thread of its own: files, and what makes
        arrays of them."""
        return None

    @abstractmethod
    def compute(self, unit: Unit, inputs: Any) -> dict[str, Output]:
        """The unit's outputs by name: a DataFrame becomes Parquet, an array a Zarr chunk."""


@dataclass(frozen=True)
class Stage(ABC):
    """A step of the pipeline with all its settings and inputs bound."""

    kind: ClassVar[str]
    """The stage; also the name of its command."""
    version: ClassVar[int]
    """The code's part of the key: raise it when the same inputs give other outputs."""

    @property
    def counts(self) -> str:
        """What `Unit.size` counts, for progress; empty for a stage that is not divided."""
        return "images"

    @property
    def variant(self) -> str:
        """Which of several instances of one kind this is: `raw` of `embeddings`."""
        return ""

    @property
    def name(self) -> str:
        """Kind and variant: the artifact's folder, and the stage's name in all output."""
        return f"{self.kind}-{self.variant}" if self.variant else self.kind

    @abstractmethod
    def units(self, store: Store) -> list[Unit]:
        """All units that this stage must have; MissingInput if an input is not there yet."""

    @abstractmethod
    def worker(self, store: Store) -> Worker:
        """Load what the units need. Heavy imports belong here."""

    def footprint(self, store: Store) -> Footprint:
        """What a whole unit takes; MissingInput if an input is not there yet."""
        return Footprint(None, None)

    def verify(self, artifact: Artifact) -> None:
        """Raise AbsError if the finished units together are not what the stage promises."""
        return

    def check(self) -> None:
        """Raise AbsError for settings or files that cannot work, before any work is done."""
        return

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the content of this stage's artifact."""
        return digest(self.identity())

    def identity(self) -> dict[str, Any]:
        """What the key is made of, in clear."""
        parts: dict[str, dict[str, Any]] = {"config": {}, "upstream": {}, "outside": {}}
        for name, value in self._hashed_fields():
            kind, part = _identify(f"{self.name}.{name}", value)
            parts[kind][name] = part
        return {"schema": SCHEMA, "stage": self.name, "version": self.version, **parts}

    @cached_property
    def upstream(self) -> list[Stage]:
        """The stages this one reads, each once."""
        found: list[Stage] = []
        for _, value in self._hashed_fields():
            candidates = list(value.values()) if isinstance(value, Mapping) else [value]
            found += [c for c in candidates if isinstance(c, Stage) and c not in found]
        return found

    def _hashed_fields(self) -> Iterator[tuple[str, Any]]:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for each in fields(self):
            if NOT_IN_KEY not in getattr(hints[each.name], "__metadata__", ()):
                yield each.name, getattr(self, each.name)


def needed(targets: list[Stage], stages: list[Stage]) -> list[Stage]:
    """Those of `stages` that `targets` are made from, themselves included, in order."""
    wanted = list(targets)
    for stage in wanted:
        wanted += [up for up in stage.upstream if up not in wanted]
    return [stage for stage in stages if stage in wanted]


def _identify(where: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, Stage):
        return "upstream", value.key
    if isinstance(value, Section):
        return "config", value.hashed()
    if isinstance(value, Mapping) and all(isinstance(v, Stage) for v in value.values()):
        return "upstream", {name: stage.key for name, stage in value.items()}
    if isinstance(value, Mapping) and all(isinstance(v, Section) for v in value.values()):
        return "config", {name: section.hashed() for name, section in value.items()}
    if isinstance(value, int | str):
        return "config", value
    if isinstance(value, ExternalInput):
        return "outside", value.identity()
    raise TypeError(f"{where}: {type(value).__name__} cannot be part of a key")


def refuse_changed(stage: Stage) -> None:
    """AbsError if a file from outside is another one than when the key was made."""
    if digest(stage.identity()) != stage.key:
        raise AbsError(
            f"{stage.name}: a file that it reads (weights, texts, images) changed while it ran; "
            "run the same command again"
        )
