"""The CLIP at hand as a source of attention.

CLIP's own preprocessing crops the border away; here the whole image is squashed into its square,
so that a patch means the same part of the image as it does for a ViT of timm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.images import Images
from pipeline.models.clip import Clip
from pipeline.models.preprocessing import squashed
from pipeline.models.sources import ClipSource
from pipeline.runtime import Runtime


class ClipMaps:
    """A loaded CLIP, read for its class token's attention in every block."""

    def __init__(self, source: ClipSource, runtime: Runtime) -> None:
        self._clip = Clip(source, runtime)
        self.layers = source.layers
        self.grid = source.grid
        self._preprocess = squashed(source.image_size, "bicubic", self._clip.device)

    @property
    def facts(self) -> dict[str, Any]:
        """CLIP's."""
        return self._clip.facts

    def read(self, images: Images, rows: slice) -> Tensor:
        """The images of `rows`, squashed: uint8 (n, 3, side, side)."""
        return torch.cat([self._preprocess(image) for image in images.block(rows)])

    def attention(self, inputs: Tensor) -> np.ndarray:
        """float32 (n, layers, grid, grid)"""
        return self._clip.cls_attention(inputs)
