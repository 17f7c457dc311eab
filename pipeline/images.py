"""Decoding image files to RGB, as PIL and CLIP's own loaders do; and only what was indexed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.errors import AbsError
from pipeline.flow import READERS, ahead, readers

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.datasets.contents import Contents

HELD_PIXELS = 1 << 27
"""Pixels of decoded images held at once: 384 MiB."""


def decode(content: bytes) -> Image.Image:
    """The image as RGB; EXIF orientation is ignored, as in CLIP. OSError if it cannot be read.

    More than 8 bits a channel are refused: Pillow would clip them to white.
    """
    with Image.open(io.BytesIO(content)) as image:
        if image.mode.startswith(("I", "F")):
            raise OSError(f"mode {image.mode}: more than 8 bits a channel")
        return image.convert("RGB")


def read_verified(contents: Contents, path: str, sha256: str) -> bytes:
    """The bytes of an image; AbsError if they are no longer those that were indexed."""
    content = contents.read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        where = contents.where(path)
        raise AbsError(f"{where} changed since it was indexed; run the same command again")
    return content


class Images:
    """The images of an index, decoded; those of the last block are held for units that share it."""

    def __init__(self, contents: Contents, index: pd.DataFrame) -> None:
        self._contents = contents
        self._files = list(zip(index["path"], index["sha256"], strict=True))
        self._rows = slice(0, 0)
        self._held: dict[int, Image.Image] = {}

    def block(self, rows: slice) -> Iterator[Image.Image]:
        """The images of `rows`, in order; a few are decoded before they are asked for."""
        if rows != self._rows:
            self._rows, self._held = rows, {}
        places = range(rows.start, rows.stop)
        for row, decoded in ahead(readers(), self._image, places, depth=READERS):
            image = decoded.result()
            if sum(held.width * held.height for held in self._held.values()) < HELD_PIXELS:
                self._held[row] = image
            yield image

    def _image(self, row: int) -> Image.Image:
        held = self._held.get(row)
        return decode(read_verified(self._contents, *self._files[row])) if held is None else held

    def sha256(self, rows: slice) -> list[str]:
        """The sha256 of the files of `rows`, in order; nothing is read."""
        return [sha256 for _, sha256 in self._files[rows]]


def most_open(index: pd.DataFrame, block: int) -> int:
    """Bytes of pixels that are open at most: of a block of `block` rows and the image before it."""
    each = (index["width"] * index["height"]).to_numpy()
    blocks = np.add.reduceat(each, np.arange(0, len(each), block)) if len(each) else each
    unheld = np.sort(each)[-2 - READERS :].sum()
    return 3 * int(min(blocks.max(initial=0), HELD_PIXELS + unheld) + each.max(initial=0))


def pixels(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, height, width)."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
