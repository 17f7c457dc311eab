"""crops: draw the crops of each image, as boxes in pixels or windows on CLIP's token grid.

Reads the image sizes and, except for `squares` and `augmented`, the attention maps. There is one
artifact per view set. A unit is a block of `layout.images` images; for all but `windows`, times a
block of `layout.crops` crops.

Each writes `crops.parquet` with the same number of rows for every image, by image, then crop. It
has the columns image, crop (int64) and image_id (str), then, all int64:

    crops-raw       patch, box_*: the drawn patch and box of each raw crop
    crops-feature   patch, token, window_*, outcome: the drawn patch, its token and the window of
                    each feature crop; outcome is the crop's row in crops-windows, or -1
    crops-windows   patch, token, window_*: every window that a feature crop can have
    crops-squares   box_*: random squares (WCA)
    crops-augmented box_*, flip: random boxes, half of them flipped left to right (1, else 0)

Boxes are in pixels and windows in tokens; left and top are inside, right and bottom are not.
crops-feature also writes `patch_probs.parquet` with the patches that can be drawn: image, rank,
patch (int64), probability (float64).

Settings: sections `crops` (raw, feature, windows), `windows` (feature, windows), `squares` and
`augmented`. The number of crops N is in no key: crop i of an image is always the same. A setting of
one view set is in no other's key, so that another rule for windows leaves the raw crops valid.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pipeline.core.section import NOT_IN_KEY
from pipeline.core.under_way import each
from pipeline.options import variants_command
from pipeline.stage import Stage, Worker
from pipeline.store.units import Unit, Units, crop_units, row_units
from pipeline.views.config import (
    BOX,
    FLIPPED_BOX,
    WINDOW,
    AugmentedConfig,
    CropsConfig,
    SquaresConfig,
    TokenGrid,
    WindowsConfig,
    WindowSpace,
)
from pipeline.views.maps import LayerMaps, check_maps, known_shape
from pipeline.views.sets import ViewSet

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from pipeline.store.store import Store

IMAGES = ["image_id", "width", "height", "sha256"]
"""Columns of the index that are read."""


@dataclass(frozen=True)
class Crops(ViewSet):
    """Base of all view sets: crops of the images of an index."""

    index: Stage
    image_block: int

    kind: ClassVar[str] = "crops"
    version: ClassVar[int] = 2

    def worker(self, store: Store) -> Worker:
        """Open the image sizes and, where crops follow attention, the maps."""
        images = store.open(self.index).table("images", columns=IMAGES)
        return self.drawer(images, self._maps(store))

    def _maps(self, store: Store) -> Any:
        """Open the attention maps; None if crops do not follow attention."""
        attention = getattr(self, "attention", None)
        return attention and store.open(attention).array("attention")

    @abstractmethod
    def drawer(self, images: pd.DataFrame, maps: Any) -> CropsWorker:
        """Return the worker that draws crops of images.

        Args:
            images: Table of the images: width, height and sha256.
            maps: Attention maps (image, layer, row, col); None if crops do not follow attention.

        Raises:
            ConfigError: If the maps lack the layer of the settings.
        """


@dataclass(frozen=True)
class _Drawn(Crops):
    """N crops of each image, in blocks."""

    crop_block: int
    count: Annotated[int, NOT_IN_KEY]

    counts = "crops"

    def units(self, store: Store) -> Units:
        """Divide the images into blocks, times blocks of crops."""
        images = store.rows(self.index)
        return crop_units(images, self.image_block, self.count, self.crop_block)

    def shape(self, store: Store) -> tuple[int, int]:
        """Return crops per image, rounded up to whole blocks, and crops per block."""
        return -(-self.count // self.crop_block) * self.crop_block, self.crop_block


@dataclass(frozen=True)
class RawCrops(_Drawn):
    """Boxes around attended patches."""

    config: CropsConfig
    attention: Stage

    version: ClassVar[int] = 3
    variant = "raw"
    common = ("crop_block", "config.seed")

    def check(self) -> None:
        """Raise ConfigError if the maps will not have the layer, or as many patches."""
        check_maps(self.attention, self.config.layer, {"crops.k": self.config.k})

    def drawer(self, images: pd.DataFrame, maps: Any) -> RawWorker:
        """Return the worker that draws boxes."""
        return RawWorker(images, LayerMaps.of(maps, self.config.layer), self.config)


@dataclass(frozen=True)
class FeatureCrops(_Drawn):
    """Windows of tokens around attended patches."""

    config: CropsConfig
    windows: WindowsConfig
    attention: Stage
    grid: TokenGrid

    version: ClassVar[int] = 4
    variant = "feature"
    common = ("crop_block",)

    def check(self) -> None:
        """Raise ConfigError if the maps will not have the layer, or as many patches."""
        k = self.windows.top(self.config)
        setting = "windows.k" if k == self.windows.k else "crops.k"
        check_maps(self.attention, self.config.layer, {setting: k})

    def drawer(self, images: pd.DataFrame, maps: Any) -> FeatureWorker:
        """Return the worker that draws windows."""
        layer_maps = LayerMaps.of(maps, self.config.layer)
        return FeatureWorker(images, layer_maps, self.config, self.windows, self.grid)


@dataclass(frozen=True)
class Windows(Crops):
    """Every window that a feature crop of an image can have, by rank of its patch, then size."""

    space: WindowSpace
    attention: Stage
    grid: TokenGrid

    variant = "windows"

    def units(self, store: Store) -> Units:
        """Divide the images into blocks."""
        return row_units(store.rows(self.index), self.image_block)

    def shape(self, store: Store) -> tuple[int, int]:
        """Return windows per image (patches times sizes), twice: one unit holds all of them."""
        count = min(self.space.k, self._patches(store)) * self.space.sizes(self.grid.tokens)
        return count, count

    def _patches(self, store: Store) -> int:
        """Return the patches of a map, if possible before the maps are there."""
        if shape := known_shape(self.attention):
            return shape[1] ** 2
        return LayerMaps.of(self._maps(store), self.space.layer).patches

    def drawer(self, images: pd.DataFrame, maps: Any) -> WindowsWorker:
        """Return the worker that lists windows."""
        layer_maps = LayerMaps.of(maps, self.space.layer)
        return WindowsWorker(images, layer_maps, self.space, self.grid)


@dataclass(frozen=True)
class SquareCrops(_Drawn):
    """Random squares."""

    config: SquaresConfig

    variant = "squares"
    common = ("crop_block", "config.seed")

    def drawer(self, images: pd.DataFrame, maps: Any) -> SquaresWorker:
        """Return the worker that draws squares."""
        return SquaresWorker(images, self.config)


@dataclass(frozen=True)
class AugmentedCrops(_Drawn):
    """Random boxes with flips, which are squashed to a square."""

    config: AugmentedConfig

    version: ClassVar[int] = 1
    variant = "augmented"
    common = ("crop_block", "config.seed")

    def drawer(self, images: pd.DataFrame, maps: Any) -> AugmentedWorker:
        """Return the worker that draws boxes and flips."""
        return AugmentedWorker(images, self.config)


@dataclass
class CropsWorker(Worker):
    """Base of the workers, which draw crops one image at a time.

    Holds the table of images: their sizes, and the sha256 that keys their random streams.
    """

    images: pd.DataFrame

    columns: ClassVar[list[str]]
    """Columns of `crops.parquet` after image, image_id and crop."""

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Return a row per crop, by image, then crop."""
        drawn = self.draw_all(unit, inputs)
        return {"crops": _table(self.images.iloc[unit.rows], unit, drawn, self.columns)}

    def draw_all(self, unit: Unit, inputs: Any) -> list[Tensor]:
        """Return the crops of each image of a unit: int64 (crops of the unit, columns)."""
        images = self.images.iloc[unit.rows].itertuples()
        pairs = each(zip(images, inputs, strict=True), len(inputs))
        return [self.draw(image, row, unit) for image, row in pairs]

    @abstractmethod
    def draw(self, image: Any, inputs: Any, unit: Unit) -> Tensor:
        """Return the crops of one image: int64 (crops of the unit, columns)."""

    def _stream(self, image: Any, unit: Unit) -> tuple[str, int, int]:
        """Return the position of the unit's uniforms: stream of an image, first and last row."""
        assert unit.crops is not None
        return image.sha256, unit.crops.start, unit.crops.stop


def _table(images: Any, unit: Unit, drawn: list[Tensor], columns: list[str]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    first, count = unit.crops.start if unit.crops else 0, len(drawn[0])
    table = {
        "image": np.repeat(np.arange(unit.rows.start, unit.rows.stop), count),
        "image_id": np.repeat(images["image_id"].to_numpy(), count),
        "crop": np.tile(np.arange(first, first + count), len(images)),
    }
    values = np.concatenate([rows.numpy() for rows in drawn]).T
    return pd.DataFrame(table | dict(zip(columns, values, strict=True)))


@dataclass
class _AttendedWorker(CropsWorker):
    """Base of the workers whose crops follow attention; holds the maps of one layer."""

    maps: LayerMaps

    def read(self, unit: Unit) -> Tensor:
        """Return the attention maps of the unit's images: float32 (n, patches)."""
        return self.maps.read(unit.rows)


@dataclass
class RawWorker(_AttendedWorker):
    """Worker that draws patches, then boxes around them; holds the section `crops`."""

    config: CropsConfig

    columns: ClassVar[list[str]] = ["patch", *BOX]

    def draw(self, image: Any, inputs: Tensor, unit: Unit) -> Tensor:
        """Return patch and box of each crop: int64 (n, 5)."""
        from pipeline.kernels.sampling import layers
        from pipeline.views.draw import raw_crops

        u = layers(self.config.seed, "crops", *self._stream(image, unit))
        return raw_crops(image, inputs, u, self.config)


@dataclass
class FeatureWorker(_AttendedWorker):
    """Worker that draws patches, then windows around their tokens.

    Holds the sections `crops` and `windows`, and CLIP's token grid.
    """

    config: CropsConfig
    windows: WindowsConfig
    grid: TokenGrid

    columns: ClassVar[list[str]] = ["patch", "token", *WINDOW, "outcome"]

    def compute(self, unit: Unit, inputs: Tensor) -> dict[str, Any]:
        """Return crops; with the first block of crops, also `patch_probs`."""
        tables = super().compute(unit, inputs)
        assert unit.crops is not None
        return tables | (
            {"patch_probs": self.patch_probs(unit, inputs)} if unit.crops.start == 0 else {}
        )

    def draw(self, image: Any, inputs: Tensor, unit: Unit) -> Tensor:
        """Return patch, token, window and outcome of each crop: int64 (n, 7)."""
        from pipeline.kernels.sampling import layers
        from pipeline.views.draw import feature_crops

        u = layers(self.config.seed, "crops", *self._stream(image, unit))
        return feature_crops(image, inputs, u, self.config, self.windows, self.grid)

    def patch_probs(self, unit: Unit, inputs: Tensor) -> pd.DataFrame:
        """Return a row per image and patch that can be drawn."""
        import pandas as pd

        from pipeline.kernels.sampling import top_patches

        tables = []
        k = self.windows.top(self.config)
        for image, attention in zip(range(unit.rows.start, unit.rows.stop), inputs, strict=True):
            patches, probs = top_patches(attention, k, self.config.temperature)
            columns = {"image": image, "rank": range(len(probs))}
            tables.append(pd.DataFrame(columns | {"patch": patches, "probability": probs}))
        return pd.concat(tables, ignore_index=True)


@dataclass
class WindowsWorker(_AttendedWorker):
    """Worker that lists all windows that can be drawn.

    Holds the settings that decide them, and CLIP's token grid.
    """

    space: WindowSpace
    grid: TokenGrid

    columns: ClassVar[list[str]] = ["patch", "token", *WINDOW]

    def draw(self, image: Any, inputs: Tensor, unit: Unit) -> Tensor:
        """Return patch, token and window, by rank of the patch, then size: int64 (n, 6)."""
        from pipeline.views.draw import possible_windows

        return possible_windows(image, inputs, self.space, self.grid)


@dataclass
class _UnattendedWorker(CropsWorker):
    """Base of the workers whose crops need only the index."""

    def read(self, unit: Unit) -> list[None]:
        """Return None per image."""
        return [None] * (unit.rows.stop - unit.rows.start)


@dataclass
class SquaresWorker(_UnattendedWorker):
    """Worker that draws random squares; holds the section `squares`."""

    config: SquaresConfig

    columns: ClassVar[list[str]] = [*BOX]

    def draw(self, image: Any, inputs: None, unit: Unit) -> Tensor:
        """Return the box of each square: int64 (n, 4)."""
        from pipeline.kernels.draws import square_crops
        from pipeline.kernels.sampling import uniforms

        u = uniforms(self.config.seed, "squares", *self._stream(image, unit))[:, :3]
        return square_crops(u, image.width, image.height, self.config.alpha, self.config.beta)


@dataclass
class AugmentedWorker(_UnattendedWorker):
    """Worker that draws random boxes with flips; holds the section `augmented`."""

    config: AugmentedConfig

    columns: ClassVar[list[str]] = [*FLIPPED_BOX]

    def draw(self, image: Any, inputs: None, unit: Unit) -> Tensor:
        """Return the box and the flip of each crop: int64 (n, 5)."""
        from pipeline.kernels.draws import augmented_crops
        from pipeline.kernels.sampling import layers

        u = layers(self.config.seed, "augmented", *self._stream(image, unit))
        return augmented_crops(u, image.width, image.height)


command = variants_command("crops", "Draw the crops of each image and of its token grid.", __doc__)
