"""descriptions: encode the texts of each class with CLIP.

Reads class names and prompt files. There is one artifact per text set (`clip`, `clip-e`, `clip-d`,
`cupl`, `waffle`), which all methods that read the set share. A unit is a block of 1024 texts,
which are encoded to unit vectors.

Writes a table and an array:

    texts.parquet      text_id, label, position within the class (int64), text_set, text (str)
    embeddings.zarr    (text, dim) float32, row i for text_id i

Settings: the text set's entry of the section `descriptions`, and section `clip`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pipeline.core.errors import AbsError
from pipeline.core.runtime import Runtime
from pipeline.core.section import NOT_IN_KEY
from pipeline.datasets.classes import Classes
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.tokenizer import Tokenizer
from pipeline.options import variants_command
from pipeline.stage import Cost, Stage, Worker, timed
from pipeline.store.units import ArraySpec, Footprint, Unit, Units, row_units
from pipeline.texts.class_texts import ClassTexts
from pipeline.texts.sets import TextSet
from pipeline.texts.tokens import token_loss

if TYPE_CHECKING:
    from pipeline.models.clip.context import ContextEncoder
    from pipeline.store.artifact import Artifact
    from pipeline.store.store import Store

BLOCK = 1024
"""Texts per unit."""


@dataclass(frozen=True)
class DescriptionsStage(Stage):
    """One text set, encoded."""

    config: TextSet
    prompts: ClassTexts
    classes: Classes
    clip: ClipSource
    runtime: Annotated[Runtime, NOT_IN_KEY]

    kind: ClassVar[str] = "descriptions"
    version: ClassVar[int] = 4
    counts = "texts"

    @property
    def variant(self) -> str:
        """Name of the text set."""
        return self.prompts.name

    def check(self) -> None:
        """Raise AbsError if a class has no texts, or a prompt file cannot be used."""
        _ = self.prompts.rows

    def remarks(self, artifact: Artifact) -> list[str]:
        """Return how many texts the text encoder cuts, or cannot tell apart, with examples; and
        which of several models in the weights file was taken."""
        tokenizer = Tokenizer.of(self.clip.resolved)
        try:
            lost = token_loss(self.prompts.texts, self.classes.names, tokenizer).messages
        except AbsError as error:  # it is there where the texts were encoded, but not here
            lost = [f"texts that are cut are not counted: {error}"]
        return [*lost, *self.weights_taken(artifact)]

    def units(self, store: Store) -> Units:
        """Divide the texts into blocks."""
        return row_units(len(self.prompts.rows), BLOCK)

    has_model: ClassVar[bool] = True

    @property
    def model_name(self) -> str:
        """Name of CLIP."""
        return self.clip.name

    @property
    def probe_name(self) -> str:
        """All text sets take the same time."""
        return "texts"

    def probe(self) -> Cost:
        """Measure CLIP on a few texts."""
        from pipeline.models.clip.model import ClipModel

        texts = ["A photo of a bird, which has a long tail."] * 32
        return timed(
            lambda: ClipModel(self.clip, self.runtime), lambda m: len(m.encode_texts(texts))
        )

    def footprint(self, store: Store) -> Footprint:
        """Return the bytes of a block's vectors in float32."""
        vectors = 4 * BLOCK * self.clip.dim
        return Footprint(2 * vectors, vectors)

    def context_encoder(self, prompts: Sequence[str]) -> ContextEncoder:
        """Load the text encoder with prompts whose first words can be learned."""
        from pipeline.models.clip.context import ContextEncoder

        return ContextEncoder(self.clip, self.runtime, prompts)

    def worker(self, store: Store) -> Worker:
        """Load CLIP."""
        from pipeline.models.clip.model import ClipModel

        return DescriptionsWorker(self.prompts, ClipModel(self.clip, self.runtime), self.clip.dim)


@dataclass
class DescriptionsWorker(Worker):
    """Worker that encodes blocks of texts.

    Holds the texts of the set, the loaded CLIP and the dimension of its vectors.
    """

    prompts: ClassTexts
    clip: Any
    dim: int

    def arrays(self) -> list[ArraySpec]:
        """Declare `embeddings` (text, dim)."""
        shape = (len(self.prompts.rows), self.dim)
        return [ArraySpec("embeddings", ("text", "dim"), shape, (BLOCK, self.dim), "float32")]

    def environment(self) -> dict[str, Any]:
        """Return device and batch size of CLIP."""
        return dict(self.clip.environment)

    def read(self, unit: Unit) -> list[tuple[int, int, str]]:
        """Return (label, position within the class, text) of the unit's texts."""
        return self.prompts.rows[unit.rows]

    def compute(self, unit: Unit, inputs: list[tuple[int, int, str]]) -> dict[str, Any]:
        """Return the texts, and their unit vectors: float32 (n, dim)."""
        import pandas as pd

        labels, positions, texts = zip(*inputs, strict=True)
        table = {
            "text_id": range(unit.rows.start, unit.rows.stop),
            "text_set": self.prompts.name,
            "label": labels,
            "position": positions,
            "text": texts,
        }
        vectors = self.clip.encode_texts(list(texts)).numpy()
        return {"texts": pd.DataFrame(table), "embeddings": vectors}


command = variants_command("descriptions", "Encode the texts of each class.", __doc__)
