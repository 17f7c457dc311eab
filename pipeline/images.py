"""Decoding image files to RGB, as PIL and CLIP's own loaders do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

HELD_PIXELS = 1 << 27
"""Pixels of decoded images held at once: 384 MiB."""


def decode(path: Path) -> Image.Image:
    """The image as RGB; EXIF orientation is ignored, as in CLIP. Raises OSError if unreadable."""
    with Image.open(path) as image:
        return image.convert("RGB")


class Images:
    """The images of an index, decoded; those of the last block are held for units that share it."""

    def __init__(self, root: Path, paths: Iterable[str]) -> None:
        self._root = root
        self._paths = list(paths)
        self._rows = slice(0, 0)
        self._held: dict[int, Image.Image] = {}

    def block(self, rows: slice) -> Iterator[Image.Image]:
        """The images of `rows`, in order, one at a time."""
        if rows != self._rows:
            self._rows, self._held = rows, {}
        for row in range(rows.start, rows.stop):
            image = self._held.get(row)
            if image is None:
                image = decode(self._root / self._paths[row])
                if sum(held.width * held.height for held in self._held.values()) < HELD_PIXELS:
                    self._held[row] = image
            yield image


def pixels(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, height, width)."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
