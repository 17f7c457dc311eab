"""crops: where to crop each image, and where to crop its token grid.

Reads the image sizes and, but for `squares`, the attention maps. One instance per view set, each
with `crops.parquet`, the same number of rows for every image:

    crops-raw       the sampled patch and box of each raw crop (pixels, half-open)
    crops-feature   the sampled patch, token and window of each feature crop (tokens, half-open);
                    also `odds.parquet`, the patches that can be drawn and their probabilities
    crops-windows   all windows that feature crops can have, whatever the draws
    crops-squares   random squares (WCA)

N is not part of any key: crop i of an image is always the same. What concerns one instance alone is
in no other's key, so that another rule for windows leaves the raw crops as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pipeline.config import RUNTIME
from pipeline.errors import ConfigError
from pipeline.options import variants_command
from pipeline.stage import Stage, Unit, Worker, crop_units, row_units
from pipeline.views import (
    BOX,
    WINDOW,
    CropsConfig,
    SquaresConfig,
    TokenGrid,
    ViewSet,
    WindowsConfig,
    WindowSpace,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from pipeline.store import Store


@dataclass(frozen=True)
class _Crops(ViewSet):
    index: Stage
    image_block: int

    kind: ClassVar[str] = "crops"
    version: ClassVar[int] = 2

    def _images(self, store: Store) -> pd.DataFrame:
        return store.open(self.index).table("images")


@dataclass(frozen=True)
class _Drawn(_Crops):
    """N crops of each image, in blocks."""

    crop_block: int
    count: Annotated[int, RUNTIME]

    counts = "crops"

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images times blocks of crops."""
        images = store.rows(self.index)
        return crop_units(images, self.image_block, self.count, self.crop_block)

    def shape(self, store: Store) -> tuple[int, int]:
        """The count, in whole blocks."""
        return -(-self.count // self.crop_block) * self.crop_block, self.crop_block


@dataclass(frozen=True)
class RawCrops(_Drawn):
    """Boxes around attended patches."""

    config: CropsConfig
    attention: Stage

    version: ClassVar[int] = 3
    variant = "raw"
    common = ("crop_block", "config.seed")

    def worker(self, store: Store) -> Worker:
        """Open the maps."""
        maps = _Maps.open(store, self.attention, self.config.layer)
        return RawWorker(self._images(store), self.config, maps)


@dataclass(frozen=True)
class FeatureCrops(_Drawn):
    """Windows of tokens around attended patches."""

    config: CropsConfig
    windows: WindowsConfig
    attention: Stage
    grid: TokenGrid

    version: ClassVar[int] = 3
    variant = "feature"
    common = ("crop_block",)

    def worker(self, store: Store) -> Worker:
        """Open the maps."""
        maps = _Maps.open(store, self.attention, self.config.layer)
        return FeatureWorker(self._images(store), self.config, self.windows, maps, self.grid)


@dataclass(frozen=True)
class Windows(_Crops):
    """Every window that a feature crop of an image can have, by rank of its patch and size."""

    space: WindowSpace
    attention: Stage
    grid: TokenGrid

    variant = "windows"

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images."""
        return row_units(store.rows(self.index), self.image_block)

    def shape(self, store: Store) -> tuple[int, int]:
        """Patches times sizes, all in one unit."""
        maps = _Maps.open(store, self.attention, self.space.layer)
        count = min(self.space.k, maps.patches) * self.space.sizes(self.grid.tokens)
        return count, count

    def worker(self, store: Store) -> Worker:
        """Open the maps."""
        maps = _Maps.open(store, self.attention, self.space.layer)
        return WindowsWorker(self._images(store), self.space, maps, self.grid)


@dataclass(frozen=True)
class SquareCrops(_Drawn):
    """Random squares."""

    config: SquaresConfig

    variant = "squares"
    common = ("crop_block", "config.seed")

    def worker(self, store: Store) -> Worker:
        """Nothing but the image sizes."""
        return SquaresWorker(self._images(store), self.config)


@dataclass(frozen=True)
class _Maps:
    """One layer of the attention maps."""

    array: Any
    layer: int

    @classmethod
    def open(cls, store: Store, attention: Stage, layer: int) -> _Maps:
        """ConfigError if the maps have no such layer."""
        array = store.open(attention).array("attention")
        layers = array.shape[1]
        if not -layers <= layer < layers:
            raise ConfigError(f"crops.layer: {layer} is not one of the {layers} layers of the maps")
        return cls(array, layer)

    @property
    def patches(self) -> int:
        """Patches of a map."""
        return int(self.array.shape[-1] ** 2)

    def of(self, rows: slice) -> Tensor:
        """float32 (n, patches)"""
        import numpy as np
        import torch

        maps = np.asarray(self.array[rows])[:, self.layer]
        return torch.from_numpy(maps.reshape(len(maps), -1))


@dataclass
class _CropsWorker(Worker):
    """Draws the crops of a block of images, one image at a time."""

    images: pd.DataFrame

    columns: ClassVar[list[str]]

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """A row per crop, by image, then crop."""
        images = self.images.iloc[unit.rows]
        drawn = [
            self.draw(image, row, unit)
            for image, row in zip(images.itertuples(), inputs, strict=True)
        ]
        return {"crops": _table(images, unit, drawn, self.columns)}

    @abstractmethod
    def draw(self, image: Any, inputs: Any, unit: Unit) -> Tensor:
        """int64 (crops of the unit, columns) of one image."""

    def _place(self, image: Any, unit: Unit) -> tuple[str, int, int]:
        """Where the uniforms of a unit's crops lie in a stream."""
        assert unit.crops is not None
        return image.sha256, unit.crops.start, unit.crops.stop


def _table(images: Any, unit: Unit, drawn: list[Tensor], columns: list[str]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    first, each = unit.crops.start if unit.crops else 0, len(drawn[0])
    table = {
        "image": np.repeat(np.arange(unit.rows.start, unit.rows.stop), each),
        "image_id": np.repeat(images["image_id"].to_numpy(), each),
        "crop": np.tile(np.arange(first, first + each), len(images)),
    }
    values = np.concatenate([rows.numpy() for rows in drawn]).T
    return pd.DataFrame(table | dict(zip(columns, values, strict=True)))


@dataclass
class RawWorker(_CropsWorker):
    """Patches, sides, boxes."""

    config: CropsConfig
    maps: _Maps

    columns: ClassVar[list[str]] = ["patch", *BOX]

    def read(self, unit: Unit) -> Tensor:
        """The maps: float32 (n, patches)."""
        return self.maps.of(unit.rows)

    def draw(self, image: Any, inputs: Tensor, unit: Unit) -> Tensor:
        """Patch and box of each crop."""
        from pipeline.cropping import raw_crops
        from pipeline.kernels.sampling import layers

        u = layers(self.config.seed, "crops", *self._place(image, unit))
        return raw_crops(image, inputs, u, self.config)


@dataclass
class FeatureWorker(_CropsWorker):
    """Patches, places on the token grid, windows."""

    config: CropsConfig
    windows: WindowsConfig
    maps: _Maps
    grid: TokenGrid

    columns: ClassVar[list[str]] = ["patch", "token", *WINDOW, "outcome"]

    def read(self, unit: Unit) -> Tensor:
        """The maps: float32 (n, patches)."""
        return self.maps.of(unit.rows)

    def compute(self, unit: Unit, inputs: Tensor) -> dict[str, Any]:
        """Crops; with the first block of crops, what they are drawn from."""
        tables = super().compute(unit, inputs)
        assert unit.crops is not None
        return tables | ({"odds": self._odds(unit, inputs)} if unit.crops.start == 0 else {})

    def draw(self, image: Any, inputs: Tensor, unit: Unit) -> Tensor:
        """Patch, token, window, and place among all windows."""
        from pipeline.cropping import feature_crops
        from pipeline.kernels.sampling import layers

        u = layers(self.config.seed, "crops", *self._place(image, unit))
        return feature_crops(image, inputs, u, self.config, self.windows, self.grid)

    def _odds(self, unit: Unit, inputs: Tensor) -> pd.DataFrame:
        """A row per image and patch that can be drawn."""
        import pandas as pd

        from pipeline.kernels.sampling import top_patches

        tables = []
        k = self.windows.top(self.config)
        for image, attention in zip(range(unit.rows.start, unit.rows.stop), inputs, strict=True):
            patches, odds = top_patches(attention, k, self.config.temperature)
            columns = {"image": image, "rank": range(len(odds))}
            tables.append(pd.DataFrame(columns | {"patch": patches, "probability": odds}))
        return pd.concat(tables, ignore_index=True)


@dataclass
class WindowsWorker(_CropsWorker):
    """All windows."""

    space: WindowSpace
    maps: _Maps
    grid: TokenGrid

    columns: ClassVar[list[str]] = ["patch", "token", *WINDOW]

    def read(self, unit: Unit) -> Tensor:
        """The maps: float32 (n, patches)."""
        return self.maps.of(unit.rows)

    def draw(self, image: Any, inputs: Tensor, unit: Unit) -> Tensor:
        """Patch, token and window, by rank and size."""
        from pipeline.cropping import possible_windows

        return possible_windows(image, inputs, self.space, self.grid)


@dataclass
class SquaresWorker(_CropsWorker):
    """Squares."""

    config: SquaresConfig

    columns: ClassVar[list[str]] = [*BOX]

    def read(self, unit: Unit) -> list[None]:
        """Nothing."""
        return [None] * (unit.rows.stop - unit.rows.start)

    def draw(self, image: Any, inputs: None, unit: Unit) -> Tensor:
        """Box of each square."""
        from pipeline.kernels.draws import square_crops
        from pipeline.kernels.sampling import uniforms

        u = uniforms(self.config.seed, "squares", *self._place(image, unit))[:, :3]
        return square_crops(u, image.width, image.height, self.config.alpha, self.config.beta)


command = variants_command("crops")
