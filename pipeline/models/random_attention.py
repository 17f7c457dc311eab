"""Attention by chance: the baseline of Table 6 that looks nowhere in particular."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.images import Images
from pipeline.kernels.sampling import generator


@dataclass(frozen=True)
class RandomMaps:
    """Uniform noise in [0, 2 / patches), from each image's own stream `attention`.

    Its mean is that of attention spread over all patches.
    """

    seed: int
    layers: ClassVar[int] = 1
    grid: ClassVar[int] = 14
    facts: ClassVar[dict[str, Any]] = {}
    """The same on every machine."""

    def read(self, images: Images, rows: slice) -> list[str]:
        """The sha256 of the images' files; no image is decoded."""
        return images.sha256(rows)

    def attention(self, inputs: list[str]) -> np.ndarray:
        """float32 (n, 1, grid, grid), each patch independent of the others."""
        patches = self.grid * self.grid
        streams = [generator(self.seed, "attention", sha256) for sha256 in inputs]
        noise = np.array([stream.random(patches, dtype=np.float32) for stream in streams])
        maps = noise * np.float32(2 / patches)
        return np.asarray(maps.reshape(len(inputs), self.layers, self.grid, self.grid))
