"""attention: where a self-supervised ViT looks in each image.

Reads the images. Writes `attention.zarr` (image, layer, row, col), float32: the head-mean
attention of the class token to each patch, in every layer (Eq. 3), so that the layer is a choice
of the next stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from pipeline.config import RUNTIME
from pipeline.datasets import Dataset
from pipeline.images import Images
from pipeline.models.sources import VitSource
from pipeline.options import stage_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    from pipeline.store import Store


@dataclass(frozen=True)
class Attention(Stage):
    """The attention maps of one model."""

    model: VitSource
    index: Stage
    image_block: int
    dataset: Annotated[Dataset, RUNTIME]
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "attention"
    version: ClassVar[int] = 1

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images."""
        return row_units(store.rows(self.index), self.image_block)

    def worker(self, store: Store) -> Worker:
        """Load the ViT."""
        from pipeline.models.vit import AttentionVit

        images = Images(self.dataset.root, store.open(self.index).table("images"))
        vit = AttentionVit(self.model, self.runtime)
        return AttentionWorker(images, vit, store.rows(self.index), self.image_block)


@dataclass
class AttentionWorker(Worker):
    """Runs the ViT on blocks of images."""

    images: Images
    vit: Any
    count: int
    block: int

    def arrays(self) -> list[ArraySpec]:
        """`attention` (image, layer, row, col)."""
        map_shape = (self.vit.layers, self.vit.grid, self.vit.grid)
        dims = ("image", "layer", "row", "col")
        shape, chunks = (self.count, *map_shape), (self.block, *map_shape)
        return [ArraySpec("attention", dims, shape, chunks, "float32")]

    def read(self, unit: Unit) -> np.ndarray:
        """The images, squashed to the model's square: uint8 (n, 3, side, side)."""
        return np.stack([self.vit.preprocess(image) for image in self.images.block(unit.rows)])

    def compute(self, unit: Unit, inputs: np.ndarray) -> dict[str, Any]:
        """Maps of every layer."""
        return {"attention": self.vit.attention(inputs)}


command = stage_command("attention")
