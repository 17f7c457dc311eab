"""Views that other settings have embedded already: what is equal is embedded once.

Crops of all settings come from one stream, so that another alpha or k draws many of the same. An
artifact of embeddings that differs from the one at hand in its views alone is looked through, unit
by unit, for views at the same place of the same image. It lends what is whole; that it is read here
never changes it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifact import Artifact

if TYPE_CHECKING:
    from pipeline.ledger import Receipt
    from pipeline.stage import Stage, Unit
    from pipeline.store import Store
    from pipeline.views import ViewSet


@dataclass
class Asked:
    """The views of a unit, each distinct one of an image once."""

    shape: tuple[int, int]
    """Images, and views of each."""
    distinct: np.ndarray
    """int64 (m, 5): image of the block, then place; in order."""
    back: np.ndarray
    """Which of these each view is: int64 (images * views,)."""
    vectors: np.ndarray
    """float16 (m, dim)"""
    missing: np.ndarray
    """Which of these are still to be made: bool (m,)."""

    @classmethod
    def of(cls, rows: np.ndarray, images: int, dim: int) -> Asked:
        """Of int64 (images * views, 5): image of the block, then place; by image, then view."""
        distinct, back = np.unique(rows, axis=0, return_inverse=True)
        vectors = np.zeros((len(distinct), dim), np.float16)
        missing = np.ones(len(distinct), bool)
        return cls((images, len(rows) // images), distinct, back.reshape(-1), vectors, missing)

    @property
    def lacking(self) -> np.ndarray:
        """The rows of `distinct` that are still to be made."""
        return np.asarray(self.distinct[self.missing])

    def borrow(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Take the vectors, (n, dim), of those of `rows`, (n, 5), that are missing here."""
        _, names = np.unique(np.concatenate([rows, self.distinct]), axis=0, return_inverse=True)
        theirs, ours = np.split(names.reshape(-1), [len(rows)])
        place = np.full(len(names), -1)
        place[theirs] = np.arange(len(rows))
        found = self.missing & (place[ours] >= 0)
        self.vectors[found] = vectors[place[ours][found]]
        self.missing = self.missing & ~found

    def fill(self, vectors: np.ndarray) -> None:
        """Vectors of all that is lacking, in order: (n, dim)."""
        self.vectors[self.missing] = vectors
        self.missing = np.zeros_like(self.missing)

    def all(self) -> np.ndarray:
        """float16 (images, views, dim)"""
        return np.asarray(self.vectors[self.back].reshape(*self.shape, -1))


@dataclass(frozen=True)
class Source:
    """An artifact that may hold some of the vectors, and the table of its views."""

    vectors: Artifact
    views: Artifact

    def receipt(self, unit: str, maker: dict[str, Any]) -> Receipt | None:
        """Of a unit that is finished and was made by `maker`, as far as that is stated."""
        found = self.vectors.ledger.read(unit)
        return found if found and maker.items() <= found.maker.items() else None

    def lend(self, asked: Asked, unit: Unit, columns: Sequence[str], maker: dict[str, Any]) -> None:
        """Give what is there of a unit; nothing of what is not whole."""
        receipt = self.receipt(unit.name, maker)
        rows = places(self.views, unit, columns)
        chunk = receipt and self.vectors.ledger.content(receipt, "embeddings.zarr")
        if chunk and rows is not None:
            images, dim = unit.rows.stop - unit.rows.start, asked.vectors.shape[1]
            stored = np.frombuffer(chunk, np.float16).reshape(-1, len(rows) // images, dim)
            asked.borrow(rows, stored[:images].reshape(-1, dim))


@dataclass(frozen=True)
class KnownViews:
    """The views of a stage, and where to look for those that are embedded already."""

    views: Artifact
    columns: Sequence[str]
    """Of a view's place, in the tables of views."""
    sources: Sequence[Source]
    code: str
    """Of the stage: what other code has made is not borrowed."""

    def ask(self, unit: Unit, dim: int, facts: dict[str, Any]) -> Asked:
        """The views of a unit, with the vectors that are known.

        facts: what vectors may depend on by float rounding; it must be the same.
        """
        table = self.views.table("crops", unit, columns=["image", *self.columns])
        images = unit.rows.stop - unit.rows.start
        asked = Asked.of(_rows(table.to_numpy(), unit), images, dim)
        for source in self.sources:
            if not asked.missing.any():
                break
            source.lend(asked, unit, self.columns, {"code": self.code, **facts})
        return asked


def places(views: Artifact, unit: Unit, columns: Sequence[str]) -> np.ndarray | None:
    """Image of the block and place of each view of a unit, by image, then view: int64 (n, 5); None
    if that is not there."""
    import pyarrow.parquet as pq

    receipt = views.ledger.read(unit.name)
    content = receipt and views.ledger.content(receipt, "crops.parquet")
    if not content:
        return None
    table = pq.read_table(io.BytesIO(content), columns=["image", *columns])
    return _rows(np.column_stack([column.to_numpy() for column in table.columns]), unit)


def sources(store: Store, stage: Stage, views: ViewSet) -> Iterator[Source]:
    """The artifacts of the same family, with views of the same kind, stream and blocks."""
    wanted, alike = family(stage.identity()), views.alike(views.identity())
    for artifact in store.artifacts(stage.name):
        identity = artifact.identity
        if identity is not None and family(identity) == wanted:
            folder = store.folder / views.name / identity["upstream"]["views"]
            source = Source(artifact, Artifact(folder, views.name))
            if views.alike(source.views.identity or {}) == alike:
                yield source


def family(identity: dict[str, Any]) -> dict[str, Any]:
    """What decides the vectors of an artifact of embeddings, but for the places of its views."""
    upstream = {n: key for n, key in identity.get("upstream", {}).items() if n != "views"}
    return {**identity, "upstream": upstream}


def _rows(table: np.ndarray, unit: Unit) -> np.ndarray:
    first = np.array([unit.rows.start, 0, 0, 0, 0])
    return np.asarray(table.astype(np.int64) - first)
