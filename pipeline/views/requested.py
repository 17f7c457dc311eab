"""Views that a stage is to embed: which they are, and which vectors are known already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


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

    @classmethod
    def at(cls, places: np.ndarray, dim: int) -> RequestedViews:
        """Group views by place, int64 (images, views, columns)."""
        image = np.indices(places.shape[:2])[0][..., None]
        table = np.concatenate([image, places], axis=2)
        return cls.of(table.reshape(-1, table.shape[2]), len(places), dim)

    @property
    def missing_rows(self) -> np.ndarray:
        """Rows of `distinct` that are still to be embedded."""
        return np.asarray(self.distinct[self.missing])

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Look for the missing views among stored ones.

        Args:
            rows: Image within the block, then place, of stored views, int64 (n, 1 + columns).

        Returns:
            Row in `rows` of each distinct view; -1 if it is not there, or not missing: int64 (m,).
        """
        _, ids = np.unique(np.concatenate([rows, self.distinct]), axis=0, return_inverse=True)
        stored, requested = np.split(ids.reshape(-1), [len(rows)])
        row_of = np.full(len(ids), -1)
        row_of[stored] = np.arange(len(rows))
        return np.where(self.missing, row_of[requested], -1)

    def take(self, found: np.ndarray, vectors: np.ndarray) -> None:
        """Take the vectors of stored views, (n, dim), of which `find` returned the rows."""
        reused = found >= 0
        self.vectors[reused] = vectors[found[reused]]
        self.missing = self.missing & ~reused

    def fill(self, vectors: np.ndarray) -> None:
        """Set the vectors of all missing views, (n, dim), in the order of `distinct`."""
        self.vectors[self.missing] = vectors
        self.missing = np.zeros_like(self.missing)

    @property
    def places(self) -> np.ndarray:
        """Place of every view, int64 (images * views, 4), by image, then view."""
        return np.asarray(self.distinct[self.back, 1:])

    def all(self) -> np.ndarray:
        """Return the embedding of every view, float16 (images, views, dim)."""
        return np.asarray(self.vectors[self.back].reshape(*self.shape, -1))


class ViewSource(Protocol):
    """Source of the views that a stage is to embed."""

    def request(
        self, rows: Sequence[int], crops: slice | None, dim: int, environment: Mapping[str, Any]
    ) -> RequestedViews:
        """Return views of some images, with the embeddings that are known already filled in."""
        ...

    def request_at(
        self, rows: Sequence[int], places: np.ndarray, dim: int, environment: Mapping[str, Any]
    ) -> RequestedViews:
        """Return views of some images at given places, int64 (images, views, 4); as `request`."""
        ...

    def drawn(self, rows: Sequence[int], count: int) -> np.ndarray:
        """Return the places of the first views of some images, int64 (images, count, 4)."""
        ...

    def without_reuse(self) -> ViewSource:
        """Return the same views, of which no embedding is known."""
        ...

    def remembering(self) -> ViewSource:
        """Return the same views, for images that are asked for round after round."""
        ...


@dataclass(frozen=True)
class DrawnViews:
    """Views that were drawn in memory; no embedding is known."""

    places: np.ndarray
    """Place of each view, int64 (images, views, 4)."""

    def request(
        self, rows: Sequence[int], crops: slice | None, dim: int, environment: Mapping[str, Any]
    ) -> RequestedViews:
        """Return views of some images."""
        return RequestedViews.at(self.places[np.asarray(rows)][:, crops or slice(None)], dim)

    def request_at(
        self, rows: Sequence[int], places: np.ndarray, dim: int, environment: Mapping[str, Any]
    ) -> RequestedViews:
        """Return views of some images at given places."""
        return RequestedViews.at(places, dim)

    def drawn(self, rows: Sequence[int], count: int) -> np.ndarray:
        """Return the places of the first views of some images, int64 (images, count, 4)."""
        return np.asarray(self.places[np.asarray(rows)][:, :count])

    def without_reuse(self) -> DrawnViews:
        """Return these views."""
        return self

    def remembering(self) -> DrawnViews:
        """Return these views."""
        return self
