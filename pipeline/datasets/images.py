"""Decoding of image files to RGB as PIL and CLIP's own loaders do, after a check of their bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from pipeline.core.errors import AbsError
from pipeline.core.threads import READERS, prefetch, readers
from pipeline.core.under_way import each
from pipeline.datasets.formats import formats

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.datasets.contents import Contents

HELD_PIXELS = 1 << 27
"""Pixels of decoded images kept in memory: 384 MiB."""


def decode(content: bytes) -> Image.Image:
    """Decode an image to RGB; OSError if it cannot be read.

    EXIF orientation is ignored, as in CLIP. More than 8 bits per channel are refused, since Pillow
    would clip them to white.
    """
    with Image.open(io.BytesIO(content), formats=formats()) as image:
        if image.mode.startswith(("I", "F")):
            raise OSError(f"mode {image.mode}: more than 8 bits a channel")
        return image.convert("RGB")


def read_verified(contents: Contents, path: str, sha256: str) -> bytes:
    """Return the bytes of an image; AbsError if their sha256 is not the indexed one."""
    content = contents.read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        where = contents.where(path)
        raise AbsError(f"{where} changed since it was indexed; run the same command again")
    return content


class Images:
    """Decoded images of an index. The last block read stays in memory for units that share it."""

    COLUMNS: ClassVar[list[str]] = ["path", "sha256"]
    """Columns of the index that are read."""

    def __init__(self, contents: Contents, index: pd.DataFrame) -> None:
        self._contents = contents
        self._paths, self._sha256 = (index[name].array for name in self.COLUMNS)
        self._rows: Sequence[int] = range(0)
        self._held: dict[int, Image.Image] = {}

    def block(self, rows: slice | Sequence[int]) -> Iterator[Image.Image]:
        """Yield the images of `rows` in order, RGB; threads decode a few of them ahead."""
        rows = range(rows.start, rows.stop) if isinstance(rows, slice) else rows
        if rows != self._rows:
            self._rows, self._held = rows, {}
        images = prefetch(readers(), self._image, rows, depth=READERS)
        for row, decoded in each(images, len(rows)):
            image = decoded.result()
            if sum(held.width * held.height for held in self._held.values()) < HELD_PIXELS:
                self._held[row] = image
            yield image

    def _image(self, row: int) -> Image.Image:
        held = self._held.get(row)
        if held is not None:
            return held
        return decode(read_verified(self._contents, self._paths[row], self._sha256[row]))

    def paths(self, rows: slice) -> list[str]:
        """Return the paths of the files of `rows` within the dataset, in order."""
        return list(self._paths[rows])

    def sha256(self, rows: slice) -> list[str]:
        """Return the indexed sha256 of the files of `rows`, in order, without reading them."""
        return list(self._sha256[rows])


def peak_image_bytes(index: pd.DataFrame, block: int) -> int:
    """Return the most bytes of decoded pixels in memory at once, for blocks of `block` rows.

    That is one block and the image before it.
    """
    pixels = (index["width"] * index["height"]).to_numpy()
    starts = np.arange(0, len(pixels), block)
    blocks = np.add.reduceat(pixels, starts) if len(pixels) else pixels
    not_held = np.sort(pixels)[-2 - READERS :].sum()
    held = min(blocks.max(initial=0), HELD_PIXELS + not_held)
    return 3 * int(held + pixels.max(initial=0))
