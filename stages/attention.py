"""attention: compute attention maps that guide the crops, one per image and layer.

Reads the images. A unit is a block of `layout.images` images, for each of which the class token's
attention to every patch is averaged over heads, in every layer (Eq. 3). So the choice of a layer is
left to the stage `crops`.

Writes one array:

    attention.zarr    (image, layer, row, col) float32

Settings: section `attention`. The model is a self-supervised ViT by default; CLIP's own attention
or random maps may take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pipeline.core.runtime import Runtime
from pipeline.core.section import NOT_IN_KEY
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import Images
from pipeline.models.attention.sources import AttentionMaps, AttentionSource
from pipeline.options import stage_command
from pipeline.stage import Cost, Stage, Worker, timed
from pipeline.store.units import ArraySpec, Unit, Units, row_units

if TYPE_CHECKING:
    from pipeline.store.artifact import Artifact
    from pipeline.store.store import Store


@dataclass(frozen=True)
class Attention(Stage):
    """The attention maps of one model."""

    model: AttentionSource
    index: Stage
    image_block: int
    dataset: Annotated[Dataset, NOT_IN_KEY]
    runtime: Annotated[Runtime, NOT_IN_KEY]

    kind: ClassVar[str] = "attention"
    version: ClassVar[int] = 2

    has_model: ClassVar[bool] = True

    @property
    def model_name(self) -> str:
        """Name of the attention model."""
        return self.model.name

    def probe(self) -> Cost:
        """Measure the attention model on black squares."""
        return timed(lambda: self.model.load(self.runtime), lambda maps: maps.try_out())

    @property
    def shape(self) -> tuple[int, int] | None:
        """Number of layers, and of patches along a side; None if only the loaded model knows."""
        return self.model.shape

    def units(self, store: Store) -> Units:
        """Divide the images into blocks."""
        return row_units(store.rows(self.index), self.image_block)

    def remarks(self, artifact: Artifact) -> list[str]:
        """Return which of several models in the weights file was taken."""
        return self.weights_taken(artifact)

    def worker(self, store: Store) -> Worker:
        """Load the model."""
        index = store.open(self.index).table("images", columns=Images.COLUMNS)
        images = Images(self.dataset.contents, index)
        maps = self.model.load(self.runtime)
        return AttentionWorker(images, maps, store.rows(self.index), self.image_block)


@dataclass
class AttentionWorker(Worker):
    """Worker that runs the attention model on blocks of images.

    Holds the loaded model, access to the images, their number and the number per unit.
    """

    images: Images
    maps: AttentionMaps
    count: int
    block: int

    def arrays(self) -> list[ArraySpec]:
        """Declare `attention` (image, layer, row, col)."""
        map_shape = (self.maps.layers, self.maps.grid, self.maps.grid)
        dims = ("image", "layer", "row", "col")
        shape, chunks = (self.count, *map_shape), (self.block, *map_shape)
        return [ArraySpec("attention", dims, shape, chunks, "float32")]

    def environment(self) -> dict[str, Any]:
        """Return device and batch size of the attention model."""
        return self.maps.environment

    def read(self, unit: Unit) -> Any:
        """Return the model's inputs: for a ViT, decoded and resized images."""
        return self.maps.read(self.images, unit.rows)

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Return the maps of every layer: float32 (n, layers, grid, grid)."""
        return {"attention": self.maps.attention(inputs)}


command = stage_command(
    "attention", "Compute the attention maps of a self-supervised ViT for each image.", __doc__
)
