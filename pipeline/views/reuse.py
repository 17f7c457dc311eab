"""Reuse embeddings of identical views that are stored under other settings.

Crops of all settings come from one stream, so another alpha or k draws many of the same views. An
embeddings artifact that differs from the requested one in its views alone is searched, unit by
unit, for views at the same place of the same image. Only files that match their receipt are reused;
reading never changes the other artifact.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.store.artifact import Artifact

if TYPE_CHECKING:
    from pipeline.stage import Stage
    from pipeline.store.ledger import Receipt
    from pipeline.store.store import Store
    from pipeline.store.units import Unit
    from pipeline.views.sets import ViewSet


@dataclass
class RequestedViews:
    """Views of one unit; each distinct view of an image is held once."""

    shape: tuple[int, int]
    """Number of images, and of views per image."""
    distinct: np.ndarray
    """Distinct views, int64 (m, 1 + columns): image within the block, then place; sorted."""
    back: np.ndarray
    """Row of `distinct` of each view, int64 (images * views,)."""
    vectors: np.ndarray
    """Embeddings of the distinct views, float16 (m, dim)."""
    missing: np.ndarray
    """True for distinct views that are still to be embedded, bool (m,)."""

    @classmethod
    def of(cls, rows: np.ndarray, images: int, dim: int) -> RequestedViews:
        """Group views by place.

        Args:
            rows: Image within the block, then place, of each view, int64 (images * views, 1 +
                columns); by image, then view.
            images: Number of images in the block.
            dim: Length of an embedding.
        """
        distinct, back = np.unique(rows, axis=0, return_inverse=True)
        vectors = np.zeros((len(distinct), dim), np.float16)
        missing = np.ones(len(distinct), bool)
        return cls((images, len(rows) // images), distinct, back.reshape(-1), vectors, missing)

    @property
    def missing_rows(self) -> np.ndarray:
        """Rows of `distinct` that are still to be embedded."""
        return np.asarray(self.distinct[self.missing])

    def take(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Take the vectors of stored views that are missing here.

        Args:
            rows: Image within the block, then place, of stored views, int64 (n, 1 +
                columns).
            vectors: Their embeddings, (n, dim).
        """
        _, ids = np.unique(np.concatenate([rows, self.distinct]), axis=0, return_inverse=True)
        stored, requested = np.split(ids.reshape(-1), [len(rows)])
        row_of = np.full(len(ids), -1)
        row_of[stored] = np.arange(len(rows))
        reused = self.missing & (row_of[requested] >= 0)
        self.vectors[reused] = vectors[row_of[requested][reused]]
        self.missing = self.missing & ~reused

    def fill(self, vectors: np.ndarray) -> None:
        """Set the vectors of all missing views, (n, dim), in the order of `distinct`."""
        self.vectors[self.missing] = vectors
        self.missing = np.zeros_like(self.missing)

    def all(self) -> np.ndarray:
        """Return the embedding of every view, float16 (images, views, dim)."""
        return np.asarray(self.vectors[self.back].reshape(*self.shape, -1))


@dataclass(frozen=True)
class StoredViews:
    """An embeddings artifact, and the artifact with the table of its views."""

    vectors: Artifact
    """Artifact of embeddings."""
    views: Artifact
    """Artifact with the table of their views."""

    def receipt(self, unit: str, maker: dict[str, Any]) -> Receipt | None:
        """Return the receipt of a unit that is finished and was made in this way, or None.

        Args:
            unit: Name of the unit.
            maker: Entries of the receipt's `maker` that must match, such as code and device.
        """
        receipt = self.vectors.ledger.read(unit)
        return receipt if receipt and maker.items() <= receipt.maker.items() else None

    def copy_into(
        self, requested: RequestedViews, unit: Unit, columns: Sequence[str], maker: dict[str, Any]
    ) -> None:
        """Copy the embeddings of a unit's stored views into the requested views.

        Nothing is copied if the unit is unfinished or damaged.

        Args:
            requested: Views to complete.
            unit: Unit to read.
            columns: Columns of a view's place.
            maker: Entries of the receipt's `maker` that must match.
        """
        receipt = self.receipt(unit.name, maker)
        rows = places(self.views, unit, columns)
        chunk = receipt and self.vectors.ledger.content(receipt, "embeddings.zarr")
        if chunk and rows is not None:
            images, dim = unit.rows.stop - unit.rows.start, requested.vectors.shape[1]
            stored = np.frombuffer(chunk, np.float16).reshape(-1, len(rows) // images, dim)
            requested.take(rows, stored[:images].reshape(-1, dim))


class ViewSource(Protocol):
    """Source of the views that a stage is to embed."""

    def request(self, unit: Unit, dim: int, environment: dict[str, Any]) -> RequestedViews:
        """Return the views of a unit, with the embeddings that are known already filled in."""
        ...

    def without_reuse(self) -> ViewSource:
        """Return the same views, of which no embedding is known."""
        ...


@dataclass(frozen=True)
class DrawnViews:
    """Views that were drawn in memory; no embedding is known."""

    places: np.ndarray
    """Place of each view, int64 (images, views, 4)."""

    def request(self, unit: Unit, dim: int, environment: dict[str, Any]) -> RequestedViews:
        """Return the views of a unit."""
        places = self.places[unit.rows, unit.crops]
        image = np.indices(places.shape[:2])[0][..., None]
        rows = np.concatenate([image, places], axis=2).reshape(-1, 5)
        return RequestedViews.of(rows, len(places), dim)

    def without_reuse(self) -> DrawnViews:
        """Return these views."""
        return self


@dataclass(frozen=True)
class ReusableViews:
    """Views of an embeddings stage, and the artifacts whose embeddings it may reuse."""

    views: Artifact
    """Artifact with the table of views."""
    columns: Sequence[str]
    """Columns of a view's place in tables of views."""
    sources: Sequence[StoredViews]
    """Artifacts to search for identical views."""
    code: str
    """Code digest of the stage; embeddings made by other code are not reused."""

    def without_reuse(self) -> ReusableViews:
        """Return the same views without artifacts to search."""
        return replace(self, sources=())

    def request(self, unit: Unit, dim: int, environment: dict[str, Any]) -> RequestedViews:
        """Return the views of a unit, with the embeddings that are stored elsewhere filled in.

        Args:
            unit: Unit to read.
            dim: Length of an embedding.
            environment: Device, batch size and the like, which must match: vectors may depend on
                them by float rounding.
        """
        table = self.views.table("crops", unit, columns=["image", *self.columns])
        images = unit.rows.stop - unit.rows.start
        requested = RequestedViews.of(_rows(table.to_numpy(), unit), images, dim)
        for source in self.sources:
            if not requested.missing.any():
                break
            source.copy_into(requested, unit, self.columns, {"code": self.code, **environment})
        return requested


def places(views: Artifact, unit: Unit, columns: Sequence[str]) -> np.ndarray | None:
    """Read image within the block and place of each view of a unit, by image, then view.

    Returns:
        int64 (n, 1 + columns), or None if the unit is unfinished or damaged.
    """
    import pyarrow.parquet as pq

    receipt = views.ledger.read(unit.name)
    content = receipt and views.ledger.content(receipt, "crops.parquet")
    if not content:
        return None
    table = pq.read_table(io.BytesIO(content), columns=["image", *columns])
    return _rows(np.column_stack([column.to_numpy() for column in table.columns]), unit)


def sources(store: Store, stage: Stage, views: ViewSet) -> Iterator[StoredViews]:
    """List artifacts of the same family whose views are of the same kind, stream and blocks."""
    own_family, own_values = family(stage.identity()), views.common_values(views.identity())
    for artifact in store.artifacts(stage.name):
        identity = artifact.identity
        if identity is not None and family(identity) == own_family:
            folder = store.folder / views.name / identity["upstream"]["views"]
            source = StoredViews(artifact, Artifact(folder, views.name))
            if views.common_values(source.views.identity or {}) == own_values:
                yield source


def family(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of an embeddings artifact without the key of its views.

    Artifacts of one family embed equal views as equal vectors.
    """
    upstream = {n: key for n, key in identity.get("upstream", {}).items() if n != "views"}
    return {**identity, "upstream": upstream}


def _rows(table: np.ndarray, unit: Unit) -> np.ndarray:
    """Count images from the start of the unit's block."""
    rows = table.astype(np.int64)
    rows[:, 0] -= unit.rows.start
    return np.asarray(rows)
