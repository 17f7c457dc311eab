"""Contract of a stage: a frozen value whose fields are everything that decides its output.

The key is derived from the fields, so nothing can be left out of it by forgetting: a section
counts with every field not marked runtime, an upstream stage with its key, an outside input
with its digest. A field of any other kind is refused.
"""

from __future__ import annotations

import time
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.hashing import SCHEMA, digest
from pipeline.core.section import NOT_IN_KEY, Section
from pipeline.store.artifact import Artifact
from pipeline.store.store import Store
from pipeline.store.units import ArraySpec, Footprint, Unit, Units

if TYPE_CHECKING:
    from pipeline.store.units import Output


@runtime_checkable
class ExternalInput(Protocol):
    """An input from outside the store (weights, prompt files, a dataset), known by its digest."""

    def identity(self) -> dict[str, Any]:
        """Return the part of the key that stands for this input, as JSON types."""
        ...


@runtime_checkable
class Noted(Protocol):
    """An input of which something had to be assumed."""

    @property
    def note(self) -> str:
        """Assumption, in one line; empty if there is none."""
        ...


class Cost(NamedTuple):
    """Seconds on this machine to load a model, and for each item that it encodes."""

    load: float
    item: float


def timed(load: Callable[[], Any], encode: Callable[[Any], int]) -> Cost:
    """Measure a model: the time to load it, and for each item of the second run of `encode`."""
    start = time.perf_counter()
    model = load()
    loaded = time.perf_counter()
    encode(model)  # the first run prepares buffers and weights
    again = time.perf_counter()
    count = encode(model)
    return Cost(loaded - start, (time.perf_counter() - again) / max(count, 1))


class Worker(ABC):
    """Holds models and open inputs; reads and computes one unit at a time."""

    def arrays(self) -> list[ArraySpec]:
        """Return the arrays that outputs of `compute` are written to."""
        return []

    def environment(self) -> dict[str, Any]:
        """Return device, batch size and the like: recorded in receipts, not in the key; they
        may change values by rounding."""
        return {}

    def disable_reuse(self) -> None:
        """Compute everything from now on, without reusing stored results."""
        return

    def read(self, unit: Unit) -> Any:
        """Read and decode the inputs of a unit; runs in a thread of its own."""
        return None

    @abstractmethod
    def compute(self, unit: Unit, inputs: Any) -> dict[str, Output]:
        """Compute a unit's outputs by name: a DataFrame becomes Parquet, an array a Zarr chunk."""

    def by_method(self) -> dict[str, float]:
        """Return the seconds of each method in the last `compute`; empty if not measured."""
        return {}


@dataclass(frozen=True)
class Stage(ABC):
    """A step of the pipeline with all its settings and inputs bound."""

    kind: ClassVar[str]
    """The stage; also the name of its command."""
    version: ClassVar[int]
    """The code's part of the key: raise it when the same inputs give other outputs."""

    @property
    def counts(self) -> str:
        """Noun for what `Unit.size` counts, for progress; empty for a stage of one unit."""
        return "images"

    @property
    def variant(self) -> str:
        """Name among several stages of one kind: `raw` of `embeddings`."""
        return ""

    @property
    def name(self) -> str:
        """Kind and variant: the artifact's folder, and the stage's name in all output."""
        return f"{self.kind}-{self.variant}" if self.variant else self.kind

    @abstractmethod
    def units(self, store: Store) -> Units:
        """Return all units of the finished stage; MissingInput if an input is not finished."""

    @abstractmethod
    def worker(self, store: Store) -> Worker:
        """Load models and open inputs. Heavy imports belong here."""

    has_model: ClassVar[bool] = False
    """True if units are encoded by a model, whose speed `probe` measures."""

    def items(self, store: Store, unit: Unit) -> int:
        """Count the images, crops or texts of a unit that are encoded."""
        return unit.size

    @property
    def model_name(self) -> str:
        """Name of the model that is loaded, for messages; empty without one."""
        return ""

    @property
    def probe_name(self) -> str:
        """Settings besides the model that `probe` depends on."""
        return self.name

    def probe(self) -> Cost:
        """Load the model and measure it on a few items."""
        raise NotImplementedError(f"{self.name} has no model")

    def footprint(self, store: Store) -> Footprint:
        """Estimate memory and storage of a unit; MissingInput if an input is not finished."""
        return Footprint(None, None)

    def verify(self, artifact: Artifact) -> None:
        """Raise AbsError if the finished units together break a promise of the stage."""
        return

    def remarks(self, artifact: Artifact) -> list[str]:
        """Return what users must know of the finished units, one line each, for its manifest."""
        return []

    def figures(self, artifact: Artifact) -> dict[str, int]:
        """Return the numbers of the finished units that commands print, for its manifest."""
        return {}

    @staticmethod
    def weights_taken(artifact: Artifact) -> list[str]:
        """Return a line if the weights file of the stage's model holds several models."""
        taken = {str(maker["weights"]) for maker in artifact.makers() if "weights" in maker}
        return [f"of several models in the weights file, taken: {each}" for each in sorted(taken)]

    def check(self) -> None:
        """Raise AbsError for settings or files that cannot work, before any work is done."""
        return

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the content of this stage's artifact."""
        return digest(self.identity())

    def identity(self) -> dict[str, Any]:
        """Return the content of the key before hashing, as JSON types."""
        parts: dict[str, dict[str, Any]] = {"config": {}, "upstream": {}, "outside": {}}
        for name, value in self._hashed_fields():
            kind, part = _identify(f"{self.name}.{name}", value)
            parts[kind][name] = part
        return {"schema": SCHEMA, "stage": self.name, "version": self.version, **parts}

    @property
    def notes(self) -> list[str]:
        """Assumptions about this stage's inputs, one line each."""
        values = (value for _, value in self._hashed_fields())
        return [value.note for value in values if isinstance(value, Noted) and value.note]

    @property
    def outside(self) -> list[ExternalInput]:
        """The inputs from outside the store."""
        values = (value for _, value in self._hashed_fields() if not isinstance(value, Stage))
        return [value for value in values if isinstance(value, ExternalInput)]

    @cached_property
    def upstream(self) -> list[Stage]:
        """The stages this one reads, each once."""
        found: list[Stage] = []
        for _, value in self._hashed_fields():
            candidates = list(value.values()) if isinstance(value, Mapping) else [value]
            found += [c for c in candidates if isinstance(c, Stage) and c not in found]
        return found

    def _hashed_fields(self) -> Iterator[tuple[str, Any]]:
        for name in _hashed(type(self)):
            yield name, getattr(self, name)


@cache
def _hashed(kind: type[Stage]) -> list[str]:
    """Return the names of the fields that are part of the key."""
    hints = typing.get_type_hints(kind, include_extras=True)
    marks = {each.name: getattr(hints[each.name], "__metadata__", ()) for each in fields(kind)}
    return [name for name, marked in marks.items() if NOT_IN_KEY not in marked]


def problems(stages: list[Stage]) -> list[AbsError]:
    """Return what keeps stages from running: missing inputs, and settings that cannot work.

    Every input is looked at once. A stage behind one with a problem is not looked at.
    """
    found: list[AbsError] = []
    seen: dict[int, bool] = {}
    for stage in stages:
        try:
            for value in stage.outside:
                if id(value) not in seen:
                    seen[id(value)] = False
                    value.identity()
                    seen[id(value)] = True
            if all(seen.get(id(each), True) for each in [*stage.outside, *stage.upstream]):
                _ = stage.key
                stage.check()
                seen[id(stage)] = True
        except AbsError as error:
            found.append(error)
        seen.setdefault(id(stage), False)
    return found


def impossible(stages: list[Stage]) -> list[ConfigError]:
    """Return the settings that cannot work, of stages whose inputs may be missing."""
    found: list[ConfigError] = []
    for stage in stages:
        try:
            stage.check()
        except ConfigError as error:
            found.append(error)
        except AbsError:  # an input that is missing
            continue
    return found


def needed(targets: list[Stage], stages: list[Stage]) -> list[Stage]:
    """Return the stages that `targets` depend on, themselves included, in the order of `stages`."""
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
    """Raise AbsError if an external file changed since the key was computed."""
    if digest(stage.identity()) != stage.key:
        raise AbsError(
            f"{stage.name}: a file that it reads (weights, texts, images) changed while it ran; "
            "run the same command again"
        )
