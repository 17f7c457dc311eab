"""Readers of a view set's stored embeddings, as drawn or in expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.views.settled import SettledReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.methods.config import ScoresConfig
    from pipeline.stage import Stage
    from pipeline.store.artifact import Artifact
    from pipeline.store.store import Store

Rows = slice | np.ndarray
"""A slice of images, or their numbers."""


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


class Reader(Protocol):
    """Reader of the views of some images, with the number of times that each view counts."""

    def read(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Read vectors, float16 (images, views, dim), and any weights, (images, views).

        A model that gives a view several vectors has (images, views, queries, dim).
        """
        ...


def is_settled(stage: Stage) -> bool:
    """Return whether a stage embeds as many views of an image as it takes to settle."""
    return "settled" in stage.identity()


def view_reader(
    store: Store,
    name: str,
    stage: Stage,
    drawn: Mapping[str, Stage],
    config: ScoresConfig,
    count: int,
) -> Reader:
    """Open the embeddings of a view set.

    Args:
        store: Store with the finished stages.
        name: Name of the view.
        stage: Stage of its embeddings.
        drawn: Draws of the view sets of which all possible views are embedded.
        config: Settings of the section `scores`.
        count: Views of an image that methods read.
    """
    artifact = store.open(stage)
    if is_settled(stage):
        return SettledReader.of(name, artifact, stage.units(store), stage.identity())
    array = artifact.array("embeddings")
    if name not in drawn:
        return ViewReader(name, array, count)
    draws = store.open(drawn[name])
    if config.expectation:
        return ExpectedReader(name, array, config.n, patch_probs(draws, array.shape[0]))
    return DrawnReader(name, array, count, outcomes(draws, array.shape[0], count))


@dataclass(frozen=True)
class ViewReader:
    """Reader of a view set as it is stored: the first `count` views of each image."""

    name: str
    """Name of the view, such as `raw`."""
    array: Any
    """Stored embeddings, float16 (images, views, dim)."""
    count: int
    """Views per image that are read."""

    def read(self, rows: Rows) -> tuple[np.ndarray, np.ndarray | None]:
        """Read some images: float16 (images, count, dim), and any weights (images, count)."""
        vectors = np.asarray(self.array[rows, : self.count])
        if vectors.shape[1] != self.count:
            raise AbsError(f"embeddings-{self.name} has {vectors.shape[1]} views, not {self.count}")
        return vectors, None


@dataclass(frozen=True)
class DrawnReader(ViewReader):
    """Reader that picks each feature crop from the embeddings of all windows that can be drawn."""

    outcomes: np.ndarray
    """Index of each crop among all windows, (images, count)."""

    def read(self, rows: Rows) -> tuple[np.ndarray, np.ndarray | None]:
        """Read some images: float16 (images, count, dim), without weights."""
        vectors = np.asarray(self.array[rows])
        return vectors[np.arange(len(vectors))[:, None], self.outcomes[rows]], None


@dataclass(frozen=True)
class ExpectedReader(ViewReader):
    """Reader of all windows that can be drawn, with their expected numbers among `count` draws."""

    probs: np.ndarray
    """Probability of each patch by rank, (images, patches)."""

    def read(self, rows: Rows) -> tuple[np.ndarray, np.ndarray | None]:
        """Read some images.

        Returns:
            Vectors, float16 (images, windows, dim).
            Weights, float64 (images, windows).
        """
        vectors, probs = np.asarray(self.array[rows]), self.probs[rows]
        sizes = vectors.shape[1] // probs.shape[1]
        return vectors, np.repeat(probs / sizes, sizes, axis=1) * self.count
