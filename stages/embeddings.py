"""embeddings: whole images, raw crops and feature crops as unit vectors.

Three artifacts, each with `embeddings.zarr` in float16: `embeddings-image` (image, view, dim) with
one view; `embeddings-raw` and `embeddings-feature` (image, crop, dim). A unit is a block of images,
or of images times crops, so a larger N adds blocks and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from pipeline.config import RUNTIME, Section
from pipeline.datasets import Dataset
from pipeline.errors import ConfigError
from pipeline.geometry import BOX, WINDOW
from pipeline.images import Images
from pipeline.models.sources import ClipSource
from pipeline.options import variants_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Stage, Unit, Worker, crop_units, row_units

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.models.clip import Clip
    from pipeline.store import Store


class FeatureConfig(Section):
    """Where CLIP's tokens are cropped: the block they enter, negative ones from the last."""

    layer: int = -1


@dataclass(frozen=True)
class _Embeddings(Stage):
    """What the three have in common: CLIP over the images of an index."""

    clip: ClipSource
    index: Stage
    image_block: int
    dataset: Annotated[Dataset, RUNTIME]
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "embeddings"

    def _load(self, store: Store) -> tuple[Clip, Images]:
        from pipeline.models.clip import Clip

        images = Images(self.dataset.root, store.open(self.index).table("images"))
        return Clip(self.clip, self.runtime), images

    def _array(self, store: Store, axis: str, count: int, block: int) -> ArraySpec:
        shape = (store.rows(self.index), count, self.clip.dim)
        chunks = (self.image_block, block, self.clip.dim)
        return ArraySpec("embeddings", ("image", axis, "dim"), shape, chunks, "float16")


@dataclass(frozen=True)
class ImageEmbeddings(_Embeddings):
    """Whole images, through CLIP's own preprocessing."""

    version: ClassVar[int] = 1
    variant = "image"

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images."""
        return row_units(store.rows(self.index), self.image_block)

    def worker(self, store: Store) -> Worker:
        """Load CLIP."""
        clip, images = self._load(store)
        return ImageWorker(clip, self._array(store, "view", 1, 1), images)


@dataclass(frozen=True)
class _CropEmbeddings(_Embeddings):
    """Embeddings of the crops of one view set."""

    crops: Stage
    crop_block: int
    count: Annotated[int, RUNTIME]

    counts: ClassVar[str] = "crops"

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images times blocks of crops."""
        images = store.rows(self.index)
        return crop_units(images, self.image_block, self.count, self.crop_block)

    def _crops(self, store: Store) -> tuple[ArraySpec, Callable[[Unit], pd.DataFrame]]:
        block = self.crop_block
        rounded = -(-self.count // block) * block
        artifact = store.open(self.crops)
        return self._array(store, "crop", rounded, block), lambda unit: artifact.table(
            "crops", unit
        )


@dataclass(frozen=True)
class RawEmbeddings(_CropEmbeddings):
    """Crops of the image itself (Eq. 6), each through CLIP's own preprocessing."""

    version: ClassVar[int] = 1
    variant = "raw"

    def worker(self, store: Store) -> Worker:
        """Load CLIP and open the crops."""
        clip, images = self._load(store)
        return RawWorker(clip, *self._crops(store), images)


@dataclass(frozen=True)
class FeatureEmbeddings(_CropEmbeddings):
    """Crops of the token grid that enters a block of CLIP (Eq. 7)."""

    config: FeatureConfig

    version: ClassVar[int] = 1
    variant = "feature"

    def check(self) -> None:
        """The layer must be one of CLIP's."""
        layers = self.clip.layers
        if not -layers <= self.config.layer < layers:
            raise ConfigError(f"feature.layer: {self.config.layer} is not one of {layers} blocks")

    def worker(self, store: Store) -> Worker:
        """Load CLIP and open the crops."""
        clip, images = self._load(store)
        return FeatureWorker(
            clip, *self._crops(store), images, self.config.layer % self.clip.layers
        )


@dataclass
class ImageWorker(Worker):
    """Embeds whole images."""

    clip: Clip
    array: ArraySpec
    images: Images

    def arrays(self) -> list[ArraySpec]:
        """`embeddings`"""
        return [self.array]

    def read(self, unit: Unit) -> np.ndarray:
        """Decoded and preprocessed images: uint8 (n, 3, side, side)."""
        return np.stack([self.clip.preprocess(image) for image in self.images.block(unit.rows)])

    def compute(self, unit: Unit, inputs: np.ndarray) -> dict[str, Any]:
        """One view per image."""
        return {"embeddings": half(self.clip.encode_images(inputs)[:, None])}


@dataclass
class RawWorker(Worker):
    """Embeds raw crops."""

    clip: Clip
    array: ArraySpec
    crops: Callable[[Unit], pd.DataFrame]
    images: Images

    def arrays(self) -> list[ArraySpec]:
        """`embeddings`"""
        return [self.array]

    def read(self, unit: Unit) -> np.ndarray:
        """Cropped and preprocessed: uint8 (n, crops, 3, side, side)."""
        images = unit.rows.stop - unit.rows.start
        boxes = self.crops(unit)[BOX].to_numpy().reshape(images, -1, 4)
        cut = [
            [self.clip.preprocess(image.crop(tuple(box))) for box in of_image.tolist()]
            for image, of_image in zip(self.images.block(unit.rows), boxes, strict=True)
        ]
        return np.array(cut)

    def compute(self, unit: Unit, inputs: np.ndarray) -> dict[str, Any]:
        """Every crop embedded; batches are composed within the unit."""
        images, crops = inputs.shape[:2]
        vectors = self.clip.encode_images(inputs.reshape(images * crops, *inputs.shape[2:]))
        return {"embeddings": half(vectors.reshape(images, crops, -1))}


@dataclass
class FeatureWorker(Worker):
    """Embeds feature crops; each distinct window of an image once."""

    clip: Clip
    array: ArraySpec
    crops: Callable[[Unit], pd.DataFrame]
    images: Images
    layer: int
    _tokens: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> list[ArraySpec]:
        """`embeddings`"""
        return [self.array]

    def read(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """Preprocessed images, uint8 (n, 3, side, side), and windows, (n, crops, 4)."""
        images = [self.clip.preprocess(image) for image in self.images.block(unit.rows)]
        windows = self.crops(unit)[WINDOW].to_numpy().reshape(len(images), -1, 4)
        return np.stack(images), windows

    def compute(self, unit: Unit, inputs: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
        """The remaining blocks over each window."""
        images, windows = inputs
        tokens = self._tokens_of(unit, images)
        vectors = [self._embed(*pair) for pair in zip(tokens, windows, strict=True)]
        return {"embeddings": half(np.stack(vectors))}

    def _tokens_of(self, unit: Unit, images: np.ndarray) -> Any:
        """The tokens of a block of images, kept for the block's further units."""
        block = str(unit.rows)
        if block not in self._tokens:
            self._tokens = {block: self.clip.tokens_before(images, self.layer)}
        return self._tokens[block]

    def _embed(self, tokens: Any, windows: np.ndarray) -> np.ndarray:
        import torch

        from pipeline.feature_crops import resize_windows

        distinct, back = np.unique(windows, axis=0, return_inverse=True)
        sequences = resize_windows(tokens, torch.from_numpy(distinct))
        return np.asarray(self.clip.finish(sequences, self.layer).numpy()[back.reshape(-1)])


def half(vectors: Any) -> np.ndarray:
    """Unit vectors as they are stored: float16, each component off by 2^-11 of itself at most."""
    return np.asarray(vectors).astype(np.float16)


command = variants_command("embeddings")
