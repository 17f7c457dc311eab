"""Inputs from a caller in place of a dataset's files: images, class names, descriptions."""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.datasets.classes import (
    Classes,
    read_class_names,
    refuse_single_class,
    resolve_classes,
)
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import Images, decode
from pipeline.datasets.listing import Class, Listing
from pipeline.store.units import Unit


class Picture(NamedTuple):
    """An image as a stage sees it."""

    image: Image.Image
    """RGB."""
    sha256: str
    """Digest that keys its random draws: of its file, or of its pixels if there is no file."""

    @classmethod
    def of(cls, given: Any) -> Picture:
        """Read a path, the bytes of a file, a Pillow image or an array.

        A file is decoded as in a dataset. Arrays are uint8, (height, width, 3) in RGB, or
        (height, width) in grey. AbsError for anything else.
        """
        if isinstance(given, str | os.PathLike):
            return cls._of_file(_bytes_of(Path(given)), str(given))
        if isinstance(given, bytes):
            return cls._of_file(given, "image")
        image = given if isinstance(given, Image.Image) else _of_array(given)
        if image.mode.startswith(("I", "F")):
            raise AbsError(f"image of mode {image.mode}: more than 8 bits a channel; convert it")
        image = image.convert("RGB")
        pixels = hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes())
        return cls(image, pixels.hexdigest())

    @classmethod
    def _of_file(cls, content: bytes, name: str) -> Picture:
        try:
            return cls(decode(content), hashlib.sha256(content).hexdigest())
        except MemoryError:
            raise
        except Exception as error:  # whatever a damaged file makes Pillow raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise AbsError(f"{name} cannot be read as an image: {reason}") from None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingInput(f"image not found: {path}") from None


def _of_array(given: Any) -> Image.Image:
    array = np.asarray(given)
    if array.dtype != np.uint8 or 0 in array.shape or array.shape[2:] not in ((), (3,)):
        raise ConfigError(
            f"image of type {type(given).__name__}, dtype {array.dtype}, shape {array.shape}: give "
            "a path, a Pillow image, or a uint8 array (height, width, 3)"
        )
    if array.ndim < 2:
        raise ConfigError(f"image of shape {array.shape}: give (height, width, 3)")
    return Image.fromarray(array)


class GivenImages(Images):
    """Images in memory, with the interface of those of an index.

    `index` is their table, with width, height and sha256; `maps` holds their attention maps,
    (image, layer, row, col), once they are computed.
    """

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = pictures
        rows = [(*picture.image.size, picture.sha256) for picture in pictures]
        self.index = pd.DataFrame(rows, columns=["width", "height", "sha256"])
        self.maps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._pictures)

    def unit(self, start: int, stop: int) -> Unit:
        """Return the unit of all images and of crops `start` to `stop` (excluded) of each."""
        return Unit("given", slice(0, len(self)), slice(start, stop))

    def block(self, rows: slice | Sequence[int]) -> Iterator[Image.Image]:
        """Yield the images of `rows` in order, RGB."""
        rows = range(rows.start, rows.stop) if isinstance(rows, slice) else rows
        return (self._pictures[row].image for row in rows)

    def sha256(self, rows: slice) -> list[str]:
        """Return the digests of the images of `rows`, in order."""
        return [picture.sha256 for picture in self._pictures[rows]]


@dataclass(frozen=True)
class GivenClasses(Dataset):
    """Dataset that has classes and no images."""

    given: Classes

    @property
    def classes(self) -> Classes:
        """The classes."""
        return self.given


def classes_of(given: Sequence[str] | str | Path) -> Classes:
    """Return classes from their names, or from a file of names: JSON or lines of a `.txt`.

    ConfigError or AbsError unless there are two names or more.
    """
    from_file = isinstance(given, str | Path)
    names = read_class_names(Path(given)) if isinstance(given, str | Path) else list(given)
    if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
        raise ConfigError(f"classes: expected names, found {reprlib.repr(wrong[0])}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"classes: {twice!r} is there twice; a class needs a name of its own")
    if not names:
        raise ConfigError("classes: give two names or more")
    listing = Listing([Class(name, name) for name in names], [])
    classes, _ = resolve_classes(listing, None, None, unique=False)
    refuse_single_class(classes, str(given) if from_file else "classes")
    return classes


@contextmanager
def as_file(given: Mapping[str, Sequence[str]] | str | Path | None) -> Iterator[str | None]:
    """Yield the file of descriptions: the given one, or one with the given lists by class name."""
    if not isinstance(given, Mapping):
        yield None if given is None else str(Path(given).expanduser().absolute())
        return
    with TemporaryDirectory(prefix="descriptions-") as folder:
        path = Path(folder) / "given.json"
        path.write_text(json.dumps({str(name): list(texts) for name, texts in given.items()}))
        yield str(path)
