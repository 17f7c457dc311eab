"""The stored views of one image that a method scored: vectors, how often each counts, and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.kernels.rounds import round_ends
from pipeline.store.arrays import StoredArray
from pipeline.store.artifact import Artifact
from pipeline.store.units import Unit, round_units
from pipeline.views.config import BOX, ENDS, WINDOW
from pipeline.views.settled import SettledReader

if TYPE_CHECKING:
    import pandas as pd

PLACE = ["space", *ENDS]
"""Columns of a view's place."""


@dataclass(frozen=True)
class ImageViews:
    """Views of one kind of one image."""

    numbers: np.ndarray
    """Number of each view among those of its kind, int64 (views,)."""
    vectors: np.ndarray
    """Unit vectors as stored, float16 (views, dim)."""
    counts: np.ndarray
    """Number of times that each view counts, float64 (views,)."""
    places: pd.DataFrame
    """Place of each view: `space` (`pixels` or `tokens`), left, top, right, bottom."""


@dataclass(frozen=True)
class StoredBranch:
    """Artifacts with the views of one kind, of all images."""

    vectors: Artifact
    """Artifact of embeddings."""
    places: Artifact | None
    """Artifact with the table of the views that are embedded; None for the whole image."""
    draws: Artifact | None
    """Artifact of the draws, if all views that can be drawn are embedded."""
    image_block: int
    """Images per unit."""

    @classmethod
    def of(cls, scores: Artifact, identity: dict[str, Any], name: str) -> StoredBranch:
        """Find the artifacts that scores were computed from.

        Args:
            scores: Artifact of scores.
            identity: Its identity.
            name: Name of the view, such as `raw`.
        """
        upstream, block = identity["upstream"], identity["config"]["image_block"]
        key = upstream.get("drawn", {}).get(name)
        draws = None if key is None else beside(scores, f"crops-{name}", key)
        vectors = beside(scores, f"embeddings-{name}", upstream["views"][name])
        if name == "image":
            return cls(vectors, None, draws, block)
        stage = "crops-windows" if draws else f"crops-{name}"
        embedded = identity_of(vectors)
        places = beside(scores, stage, embedded["upstream"]["views"])
        kind = SettledBranch if "settled" in embedded else cls
        return kind(vectors, places, draws, block)

    @cached_property
    def _array(self) -> StoredArray:
        return self.vectors.array("embeddings")

    def read(self, image: Any, row: int, count: int, expectation: bool) -> ImageViews:
        """Read the views of one image.

        Args:
            image: Row of the index, with `width` and `height` in pixels.
            row: Its number.
            count: Views per image that count.
            expectation: Whether views that can be drawn count as often as is expected.
        """
        vectors = np.asarray(self._array[row])
        places = self._places(image, row)
        if self.draws is None:
            chosen, counts = np.arange(count), np.ones(count)
        elif expectation:
            chosen, counts = np.arange(len(vectors)), self._expected(row, len(vectors), count)
        else:
            drawn = self._of_image(self.draws, "crops", row, ["crop", "outcome"])
            drawn = drawn.sort_values("crop")
            chosen, counts = drawn["outcome"].to_numpy()[:count], np.ones(count)
        numbers = np.arange(len(chosen))
        places = places.iloc[chosen].reset_index(drop=True)
        return ImageViews(numbers, vectors[chosen], counts, places)

    def _expected(self, row: int, views: int, count: int) -> np.ndarray:
        """Return the expected number of times that each view is drawn."""
        assert self.draws is not None
        table = self._of_image(self.draws, "patch_probs", row, ["rank", "probability"])
        table = table.sort_values("rank")
        sizes = views // len(table)
        return np.repeat(table["probability"].to_numpy() / sizes, sizes) * count

    def _places(self, image: Any, row: int) -> pd.DataFrame:
        """Return the places of all views of an image, in the order of their vectors."""
        import pandas as pd

        if self.places is None:
            return pd.DataFrame([("pixels", 0, 0, image.width, image.height)], columns=PLACE)
        table = self._of_image(self.places, "crops", row).sort_values("crop")
        space, columns = ("tokens", WINDOW) if WINDOW[0] in table else ("pixels", BOX)
        return table[columns].set_axis(list(ENDS), axis=1).assign(space=space)[PLACE]

    def _of_image(
        self, artifact: Artifact, table: str, row: int, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        return rows_of(artifact, table, [row], self.image_block, columns)


class SettledBranch(StoredBranch):
    """Artifacts with the views of one kind, of each image as many as it took to settle."""

    def read(self, image: Any, row: int, count: int, expectation: bool) -> ImageViews:
        """Read the views of one image, each with the number of views that it stands for."""
        units = round_units(row + 1, self.image_block, round_ends(count))
        reader = SettledReader.of("views", self.vectors, units, identity_of(self.vectors))
        (vectors,), (counts,), (numbers,) = reader.numbered(slice(row, row + 1))
        places = self._places(image, row).iloc[numbers].reset_index(drop=True)
        return ImageViews(numbers, vectors, counts, places)


def rows_of(
    artifact: Artifact,
    table: str,
    images: Sequence[int],
    image_block: int,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read the rows of some images of a table of crops, from the units of their blocks alone.

    Args:
        artifact: Artifact of a stage `crops`.
        table: Name of the table, `crops` or `patch_probs`.
        images: Numbers of the images.
        image_block: Images per unit.
        columns: Columns beside `image`; None for all.
    """
    import pandas as pd

    blocks = {image // image_block for image in images}
    names = [n for n in sorted(artifact.manifest["units"]) if _block(n) in blocks]
    if table == "patch_probs":  # the unit of the first crops writes it
        names = list({_block(name): name for name in reversed(names)}.values())
    read = None if columns is None else ["image", *columns]
    parts = [artifact.table(table, _unit(n, image_block), columns=read) for n in names]
    found = pd.concat(parts, ignore_index=True)
    return found[found["image"].isin(images)]


def _block(name: str) -> int:
    """Return the number of the block of images that a unit's name begins with."""
    return int(name.partition("-")[0])


def _unit(name: str, image_block: int) -> Unit:
    start = _block(name) * image_block
    return Unit(name, slice(start, start + image_block))


def beside(artifact: Artifact, stage: str, key: str) -> Artifact:
    """Return an artifact of another stage of the same dataset."""
    path = artifact.path.parent.parent / stage / key
    return Artifact(path, stage, artifact.options, artifact.read_only)


def identity_of(artifact: Artifact) -> dict[str, Any]:
    """Return the identity of an artifact; AbsError if it is lost or changed."""
    found = artifact.identity
    if found is None:
        raise AbsError(f"{artifact.path}: identity.json is not what was written; see abs verify")
    return found
