"""descriptions: the texts of each class, encoded.

Reads the class names and a prompt file (or a template). Writes `texts.parquet` (text_id, method,
label, text) and `embeddings.zarr` (text, dim), unit vectors in float32. One instance per text set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from pipeline import files
from pipeline.config import RUNTIME, Section
from pipeline.datasets import ClassNames
from pipeline.errors import AbsError, ConfigError, closest
from pipeline.files import Digests
from pipeline.locations import Paths
from pipeline.models.sources import ClipSource
from pipeline.options import variants_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    from pipeline.store import Store

BLOCK = 1024
"""Texts per unit."""


class TextSet(Section):
    """Where the texts of one set come from: a template, or a JSON file of lists by class name."""

    template: str | None = None
    file: Annotated[str | None, RUNTIME] = None
    limit: int | None = Field(default=None, ge=1)
    """At most so many texts a class, the first ones of the file."""

    @model_validator(mode="after")
    def _one_source(self) -> TextSet:
        if self.template is None:
            return self
        if self.template.count("{}") != 1:
            raise ValueError("a template needs {} once, where the class name goes")
        if self.file is not None or self.limit is not None:
            raise ValueError("a template goes without file and limit; set it to null to use a file")
        return self


class DescriptionsConfig(Section):
    """The text sets that methods may name."""

    clip: TextSet
    cupl: TextSet


@dataclass(frozen=True)
class Prompts:
    """The texts of one set, joined with the classes by name."""

    name: str
    config: TextSet
    classes: ClassNames
    paths: Paths
    digests: Digests

    def identity(self) -> dict[str, Any]:
        """Digest of the prompt file, if there is one."""
        return {"sha256": self.digests.sha256(self.file)} if self.config.file else {}

    @cached_property
    def file(self) -> Path:
        """The prompt file."""
        setting = f"descriptions.{self.name}.file"
        if self.config.file is None:
            raise ConfigError(f"{setting}: give a JSON file of descriptions, or a template")
        return self.paths.find(self.config.file, f"descriptions of {self.name!r}", setting)

    @cached_property
    def rows(self) -> list[tuple[int, str]]:
        """(label, text) of every text, by label."""
        return [(label, t) for label, name in enumerate(self.classes.names) for t in self._of(name)]

    def _of(self, name: str) -> list[str]:
        if self.config.template is not None:
            return [self.config.template.replace("{}", name)]
        if name not in self._content:
            raise AbsError(
                f"{self.file}: no descriptions of {name!r}; {closest(name, self._content)}"
            )
        texts = self._content[name]
        if not isinstance(texts, list) or not texts or not all(map(_is_sentence, texts)):
            raise AbsError(f"{self.file}: {name!r} needs a list of one or more sentences")
        return texts[: self.config.limit]

    @cached_property
    def _content(self) -> dict[str, Any]:
        content = files.read_json(self.file, "prompt file")
        if not isinstance(content, dict):
            raise AbsError(f"{self.file}: expected an object of lists of sentences by class name")
        return content


def _is_sentence(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


@dataclass(frozen=True)
class Descriptions(Stage):
    """One text set, encoded."""

    config: TextSet
    prompts: Prompts
    classes: ClassNames
    clip: ClipSource
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "descriptions"
    version: ClassVar[int] = 1
    counts: ClassVar[str] = "texts"

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

    def read(self, unit: Unit) -> list[tuple[int, str]]:
        """The unit's (label, text)."""
        return self.prompts.rows[unit.rows]

    def compute(self, unit: Unit, inputs: list[tuple[int, str]]) -> dict[str, Any]:
        """Texts and their unit vectors."""
        import pandas as pd

        labels, texts = zip(*inputs, strict=True)
        table = {
            "text_id": range(unit.rows.start, unit.rows.stop),
            "method": self.prompts.name,
            "label": labels,
            "text": texts,
        }
        vectors = self.clip.encode_texts(list(texts)).numpy()
        return {"texts": pd.DataFrame(table), "embeddings": vectors}


command = variants_command("descriptions")
