"""Random attention maps: the baseline "random cropping" of Table 6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.datasets.images import Images
from pipeline.kernels.sampling import generator


@dataclass(frozen=True)
class RandomMaps:
    """Uniform noise in [0, 2 / patches), from each image's own stream `attention`.

    Its mean equals that of attention spread evenly over all patches.
    """

    seed: int
    """Seed of the noise."""
    layers: ClassVar[int] = 1
    """Number of layers."""
    grid: ClassVar[int] = 14
    """Patches along a side."""
    environment: ClassVar[dict[str, Any]] = {}
    """Empty, since the noise is the same on every machine."""

    def read(self, images: Images, rows: slice) -> list[str]:
        """Return the sha256 of the images' files; no image is decoded."""
        return images.sha256(rows)

    def try_out(self) -> int:
        """Draw the maps of one image."""
        return len(self.attention(["0" * 64]))

    def attention(self, inputs: list[str]) -> np.ndarray:
        """Draw independent attention to each patch: float32 (n, 1, grid, grid)."""
        patches = self.grid * self.grid
        streams = [generator(self.seed, "attention", sha256) for sha256 in inputs]
        noise = np.array([stream.random(patches, dtype=np.float32) for stream in streams])
        maps = noise * np.float32(2 / patches)
        return np.asarray(maps.reshape(len(inputs), self.layers, self.grid, self.grid))
