"""descriptions-NAME of the rule `distinct`: the texts of each class that are not much alike.

Reads all texts of the set, encoded (`descriptions-NAME-all`). The texts of a class are shuffled; a
text is kept if its cosine with every text that is kept is at most `threshold`, until `most` are. A
unit is a block of 1024 kept texts. Writes what `descriptions` writes, in the order of the shuffle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.stage import Stage, Worker
from pipeline.store.units import ArraySpec, Unit, Units, row_units
from pipeline.texts.distinct import kept_rows
from pipeline.texts.sets import DistinctSentences

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.store.store import Store

BLOCK = 1024
"""Texts per unit."""


@dataclass(frozen=True)
class DistinctTexts(Stage):
    """The distinct texts of a set."""

    config: DistinctSentences
    text_set: str
    every: Stage
    """All texts of the set."""

    kind: ClassVar[str] = "descriptions"
    version: ClassVar[int] = 1
    counts = "texts"

    @property
    def variant(self) -> str:
        """Name of the text set."""
        return self.text_set

    def units(self, store: Store) -> Units:
        """Divide the kept texts into blocks."""
        return row_units(len(self._kept(store)[0]), BLOCK)

    def worker(self, store: Store) -> Worker:
        """Read all texts, and choose."""
        return DistinctWorker(self.text_set, *self._kept(store))

    def _kept(self, store: Store) -> tuple[pd.DataFrame, np.ndarray]:
        every = store.open(self.every)
        return self.kept(every.table("texts"), every.array("embeddings")[:])

    def kept(self, table: pd.DataFrame, vectors: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the kept rows of a table of all texts, and their vectors (texts, dim)."""
        config = self.config
        rows = kept_rows(table, vectors, config.threshold, config.most, config.seed)
        return table.iloc[rows], vectors[table["text_id"].to_numpy()[rows]]


@dataclass
class DistinctWorker(Worker):
    """Worker that holds the name of the text set, the kept texts and their vectors."""

    text_set: str
    table: pd.DataFrame
    vectors: np.ndarray

    def arrays(self) -> list[ArraySpec]:
        """Declare `embeddings` (text, dim)."""
        shape = self.vectors.shape
        return [ArraySpec("embeddings", ("text", "dim"), shape, (BLOCK, shape[1]), "float32")]

    def compute(self, unit: Unit, inputs: None) -> dict[str, Any]:
        """Return the unit's texts and vectors, numbered anew."""
        kept = self.table.iloc[unit.rows]
        positions = self.table.groupby("label").cumcount().iloc[unit.rows]
        ids = range(unit.rows.start, unit.rows.stop)
        table = kept.assign(text_id=ids, position=positions, text_set=self.text_set)
        return {"texts": table.reset_index(drop=True), "embeddings": self.vectors[unit.rows]}
