"""The CLIP at hand as a source of attention.

CLIP's own preprocessing crops the border away; here the whole image is squashed into its square,
so that a patch means the same part of the image as it does for a ViT of timm.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.images import Images, pixels
from pipeline.models.clip import Clip
from pipeline.models.sources import ClipSource
from pipeline.runtime import Runtime


class ClipMaps:
    """A loaded CLIP, read for its class token's attention in every block."""

    def __init__(self, source: ClipSource, runtime: Runtime) -> None:
        self._clip = Clip(source, runtime)
        self.layers = source.layers
        self.grid = source.grid
        self._side = source.image_size

    def read(self, images: Images, rows: slice) -> np.ndarray:
        """The images of `rows`, squashed by bicubic interpolation: uint8 (n, 3, side, side)."""
        square = (self._side, self._side)
        squashed = [image.resize(square, Image.Resampling.BICUBIC) for image in images.block(rows)]
        return np.stack([pixels(image) for image in squashed])

    def attention(self, inputs: np.ndarray) -> np.ndarray:
        """float32 (n, layers, grid, grid)"""
        return self._clip.cls_attention(inputs)
