"""attention: where a self-supervised ViT looks in each image.

Reads the images. Writes `attention.zarr` (image, layer, row, col), float32: the head-mean
attention of the class token to each patch, in every layer (Eq. 3), so that the layer is a choice
of the next stage. CLIP or chance may stand in for the ViT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pipeline.config import RUNTIME
from pipeline.datasets import Dataset
from pipeline.images import Images
from pipeline.models.attention_sources import AttentionMaps, AttentionSource
from pipeline.options import stage_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    from pipeline.store import Store


@dataclass(frozen=True)
class Attention(Stage):
    """The attention maps of one source."""

    model: AttentionSource
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
        """Load the source."""
        images = Images(self.dataset.contents, store.open(self.index).table("images"))
        maps = self.model.load(self.runtime)
        return AttentionWorker(images, maps, store.rows(self.index), self.image_block)


@dataclass
class AttentionWorker(Worker):
    """Runs the source on blocks of images."""

    images: Images
    maps: AttentionMaps
    count: int
    block: int

    def arrays(self) -> list[ArraySpec]:
        """`attention` (image, layer, row, col)."""
        map_shape = (self.maps.layers, self.maps.grid, self.maps.grid)
        dims = ("image", "layer", "row", "col")
        shape, chunks = (self.count, *map_shape), (self.block, *map_shape)
        return [ArraySpec("attention", dims, shape, chunks, "float32")]

    def facts(self) -> dict[str, Any]:
        """Of the source."""
        return self.maps.facts

    def read(self, unit: Unit) -> Any:
        """What the source needs of the images."""
        return self.maps.read(self.images, unit.rows)

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Maps of every layer."""
        return {"attention": self.maps.attention(inputs)}


command = stage_command("attention")
