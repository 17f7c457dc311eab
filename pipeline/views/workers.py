"""Interface of the workers that embed views: of a whole unit, or of some images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipeline.stage import Worker

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pipeline.views.requested import RequestedViews


class ViewInputs(NamedTuple):
    """Views of some images, and what the model reads of those that are still to be embedded."""

    rows: Sequence[int]
    """Images, ascending."""
    views: RequestedViews
    """Views, with the vectors of those that are stored elsewhere."""
    pixels: Tensor | None
    """Pixels, uint8 (n, 3, side, side); None if no view is missing."""


class ViewWorker(Worker):
    """Worker that embeds views: all of a unit's images, or those of some images."""

    @abstractmethod
    def expect_rounds(self) -> None:
        """Remember what is read of the store: images are asked for round after round."""

    @abstractmethod
    def inputs_at(self, rows: Sequence[int], places: np.ndarray) -> ViewInputs:
        """Return views of some images at given places, int64 (images, views, 4)."""

    @abstractmethod
    def drawn(self, rows: Sequence[int], count: int) -> np.ndarray:
        """Return the places of the first views of some images, int64 (images, count, 4)."""

    @abstractmethod
    def encode(self, inputs: ViewInputs) -> RequestedViews:
        """Encode the missing views; return all, of which none is missing."""
