"""Readers of a view set's stored embeddings, as drawn or in expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import AbsError

if TYPE_CHECKING:
    from pipeline.store.artifact import Artifact


def outcomes(draws: Artifact, images: int, count: int) -> np.ndarray:
    """Read the index of each feature crop among all windows that can be drawn: (images, count)."""
    table = draws.table("crops", columns=["image", "crop", "outcome"])
    table = table[table["crop"] < count].sort_values(["image", "crop"])
    return np.asarray(table["outcome"].to_numpy().reshape(images, count))


def patch_probs(draws: Artifact, images: int) -> np.ndarray:
    """Read the probability of each top patch, by rank: (images, patches)."""
    table = draws.table("patch_probs", columns=["image", "rank", "probability"])
    table = table.sort_values(["image", "rank"])
    return np.asarray(table["probability"].to_numpy().reshape(images, -1))


@dataclass(frozen=True)
class ViewReader:
    """Reader of a view set as it is stored: the first `count` views of each image."""

    name: str
    """Name of the view, such as `raw`."""
    array: Any
    """Stored embeddings, float16 (images, views, dim)."""
    count: int
    """Views per image that are read."""

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a slice of images: float16 (images, count, dim), and any weights (images, count)."""
        vectors = np.asarray(self.array[rows, : self.count])
        if vectors.shape[1] != self.count:
            raise AbsError(f"embeddings-{self.name} has {vectors.shape[1]} views, not {self.count}")
        return vectors, None


@dataclass(frozen=True)
class DrawnReader(ViewReader):
    """Reader that picks each feature crop from the embeddings of all windows that can be drawn."""

    outcomes: np.ndarray
    """Index of each crop among all windows, (images, count)."""

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a slice of images: float16 (images, count, dim), without weights."""
        vectors = np.asarray(self.array[rows])
        return np.take_along_axis(vectors, self.outcomes[rows][..., None], axis=1), None


@dataclass(frozen=True)
class ExpectedReader(ViewReader):
    """Reader of all windows that can be drawn, with their expected numbers among `count` draws."""

    probs: np.ndarray
    """Probability of each patch by rank, (images, patches)."""

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a slice of images.

        Returns:
            Vectors, float16 (images, windows, dim).
            Weights, float64 (images, windows).
        """
        vectors, probs = np.asarray(self.array[rows]), self.probs[rows]
        sizes = vectors.shape[1] // probs.shape[1]
        return vectors, np.repeat(probs / sizes, sizes, axis=1) * self.count
