"""Attention maps from files: saliency that any other program computed, one map per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.datasets.images import Images

SUFFIXES = (".npy", ".png")
"""Files of single maps in a folder."""
TABLE = ".parquet"
"""File of all maps: columns `image` and `map`."""


@dataclass(frozen=True)
class FileMaps:
    """Maps of a folder or a table, averaged over the patches of a grid.

    A map covers the whole image, whatever its size. Patches of it are shares of its sum, as those
    of attention are of 1.
    """

    place: Path
    """Folder with a file per image, or a Parquet table."""
    layers: ClassVar[int] = 1
    """Number of layers."""
    grid: ClassVar[int] = 14
    """Patches along a side."""
    environment: ClassVar[dict[str, Any]] = {}
    """Empty, since maps are the same on every machine."""

    def read(self, images: Images, rows: slice) -> list[tuple[str, np.ndarray]]:
        """Return the maps of the images of `rows`, each with where it is from; no image is decoded.

        Raises:
            AbsError: If an image has none, or one that is no map.
        """
        return [self._map(path) for path in images.paths(rows)]

    def try_out(self) -> int:
        """Average one map, to be timed."""
        return len(self.attention([("", np.ones((512, 512)))]))

    def attention(self, inputs: list[tuple[str, np.ndarray]]) -> np.ndarray:
        """Average maps over patches: float32 (n, 1, grid, grid), each of sum 1."""
        maps = np.stack([shares(values, self.grid, where) for where, values in inputs])
        return maps[:, None].astype(np.float32)

    def _map(self, image: str) -> tuple[str, np.ndarray]:
        """Read the map of an image, by its path in the dataset."""
        stem = str(Path(image).with_suffix(""))
        if self.place.suffix == TABLE:
            found = self._table.get(image, self._table.get(stem))
            if found is None:
                raise AbsError(f"attention.model: {self.place} has no row for the image {image}")
            where = f"{self.place}, {image}"
            return where, _read(lambda rows: np.stack(list(rows)), found, where)
        for suffix in SUFFIXES:
            if (file := self.place / f"{stem}{suffix}").is_file():
                return str(file), _read(READERS[suffix], file, str(file))
        raise AbsError(
            f"attention.model: {self.place} has no map of {image}: expected {stem} with "
            f"{' or '.join(SUFFIXES)}"
        )

    @cached_property
    def _table(self) -> dict[str, Any]:
        """Maps of the table by image, as rows of numbers."""
        import pandas as pd

        try:
            table = pd.read_parquet(self.place)
        except (OSError, ValueError) as error:
            raise AbsError(f"attention.model: {self.place} cannot be read: {error}") from None
        if not {"image", "map"} <= set(table.columns):
            raise AbsError(f"attention.model: {self.place} lacks the columns image and map")
        if (again := table["image"][table["image"].duplicated()]).size:
            raise AbsError(f"attention.model: {self.place} has two maps of {again.iloc[0]}")
        return dict(zip(table["image"], table["map"], strict=True))


def _read(reader: Callable[[Any], np.ndarray], source: Any, where: str) -> np.ndarray:
    """Read a map; AbsError that says where it is if it cannot be read."""
    try:
        return reader(source)
    except (OSError, EOFError, TypeError, ValueError, BadZipFile) as error:
        raise AbsError(f"attention map {where} cannot be read: {error}") from None


def _array(file: Path) -> np.ndarray:
    """Read a map from a NumPy file."""
    return np.asarray(np.load(file, allow_pickle=False))


def _picture(file: Path) -> np.ndarray:
    """Read a map from a grey picture; numbers of a palette are no brightness."""
    from PIL import Image

    with Image.open(file, formats=["PNG"]) as opened:
        if opened.mode not in GREY:
            raise ValueError(f"its colour mode is {opened.mode}; convert it to grey")
        return np.asarray(opened)


GREY = ("1", "L", "I", "I;16", "I;16B")
"""Modes of Pillow with one channel of brightness."""


READERS: dict[str, Callable[[Path], np.ndarray]] = {".npy": _array, ".png": _picture}
"""Functions that read a map, by suffix."""


def shares(values: np.ndarray, grid: int, where: str) -> np.ndarray:
    """Divide the sum of a map among the patches of a grid, by area.

    Args:
        values: Map (height, width), not negative.
        grid: Patches along a side.
        where: Place of the map, for errors.

    Returns:
        float64 (grid, grid), of sum 1.

    Raises:
        AbsError: If it is not of two dimensions and real numbers, or has values below 0, NaN, a sum
            beyond all numbers, or nothing above 0.
    """
    if values.dtype.kind not in "biuf":
        raise AbsError(f"attention map {where}: holds {values.dtype}, not real numbers")
    if values.ndim != 2 or not values.size:
        raise AbsError(f"attention map {where}: shape {values.shape}, not (height, width)")
    if not np.isfinite(values).all() or values.min() < 0:
        raise AbsError(f"attention map {where}: has values below 0, or that are no numbers")
    down, across = (_overlaps(size, grid) for size in values.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        patches = down @ values.astype(np.float64) @ across.T
        total = patches.sum()
    if not np.isfinite(total):
        raise AbsError(f"attention map {where}: has values too large to be added")
    if not total:
        raise AbsError(f"attention map {where}: is 0 everywhere; write an even map instead")
    return np.asarray(patches / total)


def _overlaps(size: int, grid: int) -> np.ndarray:
    """Return how much of each of `size` pixels lies in each of `grid` patches, (grid, size)."""
    ends = np.arange(grid + 1) * size / grid
    pixels = np.arange(size)
    last = np.minimum(ends[1:, None], pixels + 1)
    return np.asarray(np.clip(last - np.maximum(ends[:-1, None], pixels), 0, None))
