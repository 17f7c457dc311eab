"""Decoding image files to RGB, as PIL and CLIP's own loaders do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def decode(path: Path) -> Image.Image:
    """The image as RGB; EXIF orientation is ignored, as in CLIP. Raises OSError if unreadable."""
    with Image.open(path) as image:
        return image.convert("RGB")


class Images:
    """The images of an index, decoded; the last block is kept for units that share it."""

    def __init__(self, root: Path, paths: Iterable[str]) -> None:
        self._root = root
        self._paths = list(paths)
        self._held: dict[int, Image.Image] = {}

    def block(self, rows: slice) -> list[Image.Image]:
        """The images of `rows`, in order."""
        wanted = range(rows.start, rows.stop)
        self._held = {
            row: self._held.get(row) or decode(self._root / self._paths[row]) for row in wanted
        }
        return list(self._held.values())


def pixels(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, height, width)."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
