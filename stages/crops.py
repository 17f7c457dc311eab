"""crops: where to crop each image, and where to crop its token grid.

Reads the attention maps and the image sizes. Writes `crops.parquet`, a row per image and crop:
the sampled patch and box of the raw crop (pixels, half-open), the sampled token and window of the
feature crop (tokens, half-open). N is not part of the key: crop i of an image is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from pipeline import geometry, sampling
from pipeline.config import RUNTIME, Section
from pipeline.errors import ConfigError
from pipeline.options import stage_command
from pipeline.runtime import Layout
from pipeline.stage import Stage, Unit, Worker, crop_units

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.store import Store

RAW_PATCH, RAW_WIDTH, RAW_HEIGHT, FEATURE_TOKEN, FEATURE_SIZE = range(5)
"""Which column of an image's uniforms decides what."""

COLUMNS = ["patch", *geometry.BOX, "token", *geometry.WINDOW]


class CropsConfig(Section):
    """How crops are drawn (section 3.2 and 3.3 of the paper)."""

    layer: int = -1
    """Whose attention: a layer of the attention model, negative ones from the end."""
    k: int = Field(default=20, ge=1)
    temperature: float = Field(default=0.03, ge=1e-6)
    alpha: float = Field(default=0.5, gt=0, le=1)
    beta: float = Field(default=0.9, gt=0, le=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> CropsConfig:
        if self.alpha > self.beta:
            raise ValueError(f"alpha {self.alpha} is larger than beta {self.beta}")
        return self


@dataclass(frozen=True)
class Crops(Stage):
    """Attention-guided crops."""

    config: CropsConfig
    attention: Stage
    index: Stage
    token_grid: int
    layout: Layout
    count: Annotated[int, RUNTIME]

    kind: ClassVar[str] = "crops"
    version: ClassVar[int] = 1
    counts: ClassVar[str] = "crops"

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images times blocks of crops."""
        images = store.rows(self.index)
        return crop_units(images, self.layout.images, self.count, self.layout.crops)

    def worker(self, store: Store) -> Worker:
        """Open the maps."""
        maps = store.open(self.attention).array("attention")
        layers = maps.shape[1]
        if not -layers <= self.config.layer < layers:
            raise ConfigError(
                f"crops.layer: {self.config.layer} is not one of the {layers} layers of the maps"
            )
        images = store.open(self.index).table("images")
        return CropsWorker(self.config, self.token_grid, maps, images)


@dataclass
class CropsWorker(Worker):
    """Draws the crops of blocks of images."""

    config: CropsConfig
    token_grid: int
    maps: Any
    images: pd.DataFrame

    def read(self, unit: Unit) -> np.ndarray:
        """The chosen layer's maps: float32 (n, patches)."""
        maps = np.asarray(self.maps[unit.rows])[:, self.config.layer]
        return maps.reshape(len(maps), -1)

    def compute(self, unit: Unit, inputs: np.ndarray) -> dict[str, Any]:
        """A row per crop, by image, then crop."""
        import pandas as pd

        assert unit.crops is not None
        images = self.images.iloc[unit.rows]
        numbers = np.arange(unit.crops.start, unit.crops.stop)
        drawn = [
            self._draw(image, attention, unit.crops)
            for image, attention in zip(images.itertuples(), inputs, strict=True)
        ]
        table = {
            "image": np.repeat(np.arange(unit.rows.start, unit.rows.stop), len(numbers)),
            "image_id": np.repeat(images["image_id"].to_numpy(), len(numbers)),
            "crop": np.tile(numbers, len(images)),
        }
        columns = dict(zip(COLUMNS, np.concatenate(drawn).T, strict=True))
        return {"crops": pd.DataFrame(table | columns)}

    def _draw(self, image: Any, attention: np.ndarray, crops: slice) -> np.ndarray:
        """int64 (crops, COLUMNS) of one image."""
        config, grid = self.config, round(len(attention) ** 0.5)
        draws = sampling.uniforms(config.seed, "crops", image.sha256, crops.start, crops.stop).T
        items, odds = sampling.top_patches(attention, config.k, config.temperature)
        patch = sampling.choose(items, odds, draws[RAW_PATCH])
        sides = [
            sampling.integers(*geometry.size_bounds(side, config.alpha, config.beta), draws[column])
            for side, column in ((image.width, RAW_WIDTH), (image.height, RAW_HEIGHT))
        ]
        centers = geometry.patch_centers(patch, grid, image.width, image.height)
        boxes = geometry.raw_boxes(centers, np.stack(sides, axis=-1), image.width, image.height)
        token = sampling.choose(items, odds, draws[FEATURE_TOKEN])
        token = geometry.to_grid(token, grid, self.token_grid)
        bounds = geometry.window_bounds(self.token_grid, config.alpha, config.beta)
        size = sampling.integers(*bounds, draws[FEATURE_SIZE])
        windows = geometry.feature_windows(token, size, self.token_grid)
        return np.column_stack([patch, boxes, token, windows])


command = stage_command("crops")
