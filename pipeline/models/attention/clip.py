"""Attention maps of the run's own CLIP.

CLIP's own preprocessing crops the border; here the whole image is squashed to its square input, so
that a patch covers the same part of the image as in a timm ViT.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from pipeline.core.runtime import Runtime
from pipeline.datasets.images import Images
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.source import ClipSource
from pipeline.models.preprocessing import squashed


class ClipMaps:
    """A loaded CLIP that returns its class token's attention in every block."""

    def __init__(self, source: ClipSource, runtime: Runtime) -> None:
        self._clip = ClipModel(source, runtime)
        self.layers = source.layers
        self.grid = source.grid
        self._preprocess = squashed(source.image_size, "bicubic", self._clip.device)

    def fill_batches(self, least: int) -> None:
        """Fill batches that are smaller up to `least` from now on."""
        self._clip.fill_batches(least)

    @property
    def environment(self) -> dict[str, Any]:
        """Device and batch size of CLIP."""
        return self._clip.environment

    def read(self, images: Images, rows: slice) -> Tensor:
        """Read the images of `rows`, squashed: uint8 (n, 3, side, side)."""
        return self._preprocess.block((image, None) for image in images.block(rows))

    def try_out(self) -> int:
        """Compute maps of a batch of black images, to be timed; return how many."""
        return len(self.attention(self._clip.black()))

    def attention(self, inputs: Tensor) -> np.ndarray:
        """Compute attention maps, float32 (n, layers, grid, grid)."""
        return self._clip.cls_attention(inputs)
