"""descriptions: the texts of each class, encoded.

Reads the class names and the files of a text set. Writes `texts.parquet` (text_id, method, label,
position within the class, text) and `embeddings.zarr` (text, dim), unit vectors in float32. One
instance per text set; methods that read the same texts share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pipeline import texts
from pipeline.config import MAX_SEED, RUNTIME, Section
from pipeline.datasets.classes import Classes
from pipeline.datasets.library import openai_templates
from pipeline.errors import AbsError, ConfigError, closest
from pipeline.files import Digests
from pipeline.identity import digest
from pipeline.locations import Paths
from pipeline.models.sources import ClipSource
from pipeline.options import variants_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Footprint, Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    from pipeline.store import Store

BLOCK = 1024
"""Texts per unit."""


IF_THERE = "?"
"""Before a path: to be used if it is there, and to be done without if not."""


class _TextSet(Section):
    """Where texts come from."""

    file: Annotated[str | None, RUNTIME] = None

    def lacking(self, paths: Paths) -> str | None:
        """The field that must be given before there are texts, and why it is not."""
        return self._without(paths, "file")

    def _without(self, paths: Paths, field: str) -> str | None:
        value = getattr(self, field)
        if value is None:
            return f"{field} is not given"
        if not value.startswith(IF_THERE) or paths.there(value.removeprefix(IF_THERE)):
            return None
        places = " or ".join(map(str, paths.places(value.removeprefix(IF_THERE))))
        return f"{field} is not at {places}"


class Templates(_TextSet):
    """Sentences with {} where the class name goes: given here, or as a JSON list in a file."""

    rule: Literal["templates"]
    templates: tuple[str, ...] = ()
    library: Literal["openai-imagenet"] | None = None
    """The 80 that OpenAI published for ImageNet, as open_clip has them."""

    @field_validator("templates", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given or ()

    @model_validator(mode="after")
    def _one_source(self) -> Templates:
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError("a template needs {} once, where the class name goes")
        if sum(map(bool, (self.templates, self.library, self.file))) > 1:
            raise ValueError("give one of templates, library and file, and null for the others")
        return self

    def lacking(self, paths: Paths) -> str | None:
        """Templates or a file of them."""
        given = self.templates or self.library
        return None if given else super().lacking(paths)


class Sentences(_TextSet):
    """Texts as they are: a JSON file of lists by class name."""

    rule: Literal["sentences"]


class Descriptors(_TextSet):
    """`{class}, which has {descriptor}`: a JSON file of lists by class name (CLIP-D)."""

    rule: Literal["descriptors"]


class Noise(_TextSet):
    """`A photo of a {class}, which has {noise}.`, the same for all classes (Waffle). Characters
    are drawn from those of a file of descriptors."""

    rule: Literal["waffle"]
    words: Annotated[str | None, RUNTIME] = None
    """A text file with one word a line."""
    pairs: int = Field(default=15, ge=1)
    """Texts of random words, and as many of random characters."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def lacking(self, paths: Paths) -> str | None:
        """Both files."""
        return super().lacking(paths) or self._without(paths, "words")


TextSet = Annotated[Templates | Sentences | Descriptors | Noise, Field(discriminator="rule")]
RULES: dict[str, type[Section]] = {
    "templates": Templates,
    "sentences": Sentences,
    "descriptors": Descriptors,
    "waffle": Noise,
}


@dataclass(frozen=True)
class Prompts:
    """The texts of one set, joined with the classes by name."""

    name: str
    config: TextSet
    classes: Classes
    paths: Paths
    digests: Digests

    def identity(self) -> dict[str, Any]:
        """Digests of what the texts are taken from, if it is not in the settings."""
        found = {f"{name}_sha256": self.digests.sha256(self.path(name)) for name in self.files}
        if isinstance(self.config, Templates) and self.config.library:
            found["library"] = digest(openai_templates())
        return found

    @property
    def files(self) -> list[str]:
        """The fields that name a file."""
        return [name for name in ("file", "words") if getattr(self.config, name, None)]

    def path(self, field: str) -> Path:
        """The file that a field names."""
        setting, given = f"descriptions.{self.name}.{field}", getattr(self.config, field)
        if given is None:
            raise ConfigError(
                f"{setting}: give a file, or leave methods that read it out of scores.methods"
            )
        return self.paths.find(given.removeprefix(IF_THERE), f"texts of {self.name!r}", setting)

    @cached_property
    def texts(self) -> list[list[str]]:
        """The texts of each class, by label."""
        names, config = self.classes.names, self.config
        if isinstance(config, Templates):
            return texts.of_templates(names, self._templates(config))
        if isinstance(config, Noise):
            return texts.of_noise(names, self._noise(config))
        keys = [self._key(known) for known in self.classes.known]
        found = [self._by_class[key] for key in keys]
        if isinstance(config, Sentences):
            return found
        # A name that the file has for one class alone is also the better one to say.
        counts = Counter(keys)
        said = [n if counts[key] > 1 else key for n, key in zip(names, keys, strict=True)]
        return texts.of_descriptors(said, found)

    @cached_property
    def rows(self) -> list[tuple[int, int, str]]:
        """(label, position in the class, text) of every text, by label."""
        return [(c, i, text) for c, told in enumerate(self.texts) for i, text in enumerate(told)]

    def _templates(self, config: Templates) -> Sequence[str]:
        if config.library:
            return openai_templates()
        return config.templates or texts.read_templates(self.path("file"))

    def _noise(self, config: Noise) -> list[str]:
        """Waffle's, in the shape of all class names that the descriptors are of."""
        words, told = texts.read_words(self.path("words")), self._by_class
        letters = [text for of_class in told.values() for text in of_class]
        try:
            return texts.waffle_noise(list(told), words, letters, config.pairs, config.seed)
        except ValueError as error:
            raise AbsError(f"{self.path('file')}: {error}") from None

    @cached_property
    def _by_class(self) -> dict[str, list[str]]:
        return texts.read_texts(self.path("file"), f"texts of {self.name!r}", empty=True)

    @property
    def unused(self) -> list[str]:
        """Classes of the file that the dataset has not."""
        if isinstance(self.config, Templates):
            return []
        known = {name for names in self.classes.known for name in names}
        return [name for name in self._by_class if name not in known]

    def _key(self, known: tuple[str, ...]) -> str:
        """The name by which the file knows a class."""
        for name in known:
            if name in self._by_class:
                return name
        hint = closest(known[0], self._by_class)
        raise AbsError(f"{self.path('file')}: no descriptions of {known[0]!r}; {hint}")


@dataclass(frozen=True)
class Descriptions(Stage):
    """One text set, encoded."""

    config: TextSet
    prompts: Prompts
    classes: Classes
    clip: ClipSource
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "descriptions"
    version: ClassVar[int] = 2
    counts = "texts"

    @property
    def variant(self) -> str:
        """The text set."""
        return self.prompts.name

    def check(self) -> None:
        """Every class must have its texts."""
        _ = self.prompts.rows

    def units(self, store: Store) -> list[Unit]:
        """Blocks of texts."""
        return row_units(len(self.prompts.rows), BLOCK)

    def footprint(self, store: Store) -> Footprint:
        """Vectors in float32."""
        vectors = 4 * BLOCK * self.clip.dim
        return Footprint(2 * vectors, vectors)

    def worker(self, store: Store) -> Worker:
        """Load CLIP."""
        from pipeline.models.clip import Clip

        return DescriptionsWorker(self.prompts, Clip(self.clip, self.runtime), self.clip.dim)


@dataclass
class DescriptionsWorker(Worker):
    """Encodes blocks of texts."""

    prompts: Prompts
    clip: Any
    dim: int

    def arrays(self) -> list[ArraySpec]:
        """`embeddings` (text, dim)."""
        shape = (len(self.prompts.rows), self.dim)
        return [ArraySpec("embeddings", ("text", "dim"), shape, (BLOCK, self.dim), "float32")]

    def facts(self) -> dict[str, Any]:
        """CLIP's."""
        return dict(self.clip.facts)

    def read(self, unit: Unit) -> list[tuple[int, int, str]]:
        """The unit's (label, position, text)."""
        return self.prompts.rows[unit.rows]

    def compute(self, unit: Unit, inputs: list[tuple[int, int, str]]) -> dict[str, Any]:
        """Texts and their unit vectors."""
        import pandas as pd

        labels, positions, sentences = zip(*inputs, strict=True)
        table = {
            "text_id": range(unit.rows.start, unit.rows.stop),
            "method": self.prompts.name,
            "label": labels,
            "position": positions,
            "text": sentences,
        }
        vectors = self.clip.encode_texts(list(sentences)).numpy()
        return {"texts": pd.DataFrame(table), "embeddings": vectors}


command = variants_command("descriptions")
