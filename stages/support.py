"""embeddings-support: encode labelled images of another split or dataset, for methods that learn.

Reads the images of that dataset and its classes. From each class some images are drawn by a seed;
of each, random resized crops as torchvision draws them, squashed by Pillow's bicubic filter, half
of them flipped, or the whole image. A unit is a block of 256 vectors.

Writes a table and an array, as `descriptions` does for texts:

    texts.parquet      text_id, label (of the dataset that is scored), position within the class
                       (int64), text_set, text (str): the image's path, and the pass if there are
                       several
    embeddings.zarr    (text, dim) float32, row i for text_id i

Settings: `support` of the method that reads it, and section `clip`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np

from pipeline.core.errors import AbsError, ConfigError, first_of
from pipeline.core.runtime import Runtime
from pipeline.core.section import NOT_IN_KEY
from pipeline.datasets.classes import Classes
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import decode, read_verified
from pipeline.methods.support import SUPPORT, SupportConfig
from pipeline.models.clip.source import ClipSource
from pipeline.stage import Worker
from pipeline.store.units import ArraySpec, Footprint, Unit, Units, row_units
from pipeline.views.encoding import ImageEncoding

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from pipeline.models.clip.model import ClipModel
    from pipeline.models.preprocessing import Preprocessing
    from pipeline.store.store import Store

BLOCK = 256
"""Vectors per unit."""
AREA = (0.5, 1.0)
"""Smallest and largest share of an image's area that a crop has."""


class Shot(NamedTuple):
    """One vector of the support set."""

    label: int
    """Class, as in the dataset that is scored."""
    position: int
    """Place within the class."""
    path: str
    sha256: str
    turn: int
    """Pass, from 0."""


@dataclass(frozen=True)
class SupportEmbeddings(ImageEncoding):
    """A support set, encoded."""

    config: SupportConfig
    classes: Classes
    own_classes: Classes
    """Classes of the support set's dataset."""
    dataset: Dataset
    """The support set's dataset."""
    clip: ClipSource
    runtime: Annotated[Runtime, NOT_IN_KEY]

    version: ClassVar[int] = 1
    variant = SUPPORT
    counts = "vectors"

    def check(self) -> None:
        """Raise AbsError if a class has no image, ConfigError for images of several vectors."""
        if self.clip.queries > 1:
            raise ConfigError(
                f"clip.queries: a support set has one vector of an image, not {self.clip.queries}; "
                "set clip.queries=mean (an approximation)"
            )
        _ = self.shots

    @cached_property
    def shots(self) -> list[Shot]:
        """All vectors, by class: images in the order in which they are drawn, then passes."""
        turns, found = max(self.config.passes, 1), []
        for label, images in enumerate(self._images):
            for i, (path, sha) in enumerate(images[: self.config.shots]):
                found += [Shot(label, i * turns + turn, path, sha, turn) for turn in range(turns)]
        return found

    @property
    def _images(self) -> list[list[tuple[str, str]]]:
        """Path and sha256 of each class's images, in the order in which they are drawn; AbsError
        if a class that is scored has none.
        """
        from pipeline.kernels.sampling import uniforms

        by_name: dict[str, list[tuple[float, str, str]]] = {}
        shas = self.dataset.sha256_of_images()
        for (path, label), sha in zip(self.dataset.samples, shas, strict=True):
            drawn = float(uniforms(self.config.seed, "shots", sha, 0, 1)[0, 0])
            by_name.setdefault(self.own_classes.names[label], []).append((drawn, path, sha))
        missing = [repr(name) for name in self.classes.names if name not in by_name]
        if missing:
            raise AbsError(
                f"support set {self.dataset.config.name!r}: no image of "
                f"{', '.join(first_of(missing))}; it needs each class under the name that it has "
                "where it is scored"
            )
        return [[each[1:] for each in sorted(by_name[name])] for name in self.classes.names]

    def units(self, store: Store) -> Units:
        """Divide the vectors into blocks."""
        return row_units(len(self.shots), BLOCK)

    def footprint(self, store: Store) -> Footprint:
        """Return bytes of CLIP's inputs and of vectors in float32; images are open one by one."""
        vectors = 4 * BLOCK * self.clip.dim
        return Footprint(3 * self.clip.image_size**2 * BLOCK + 2 * vectors, vectors)

    def worker(self, store: Store) -> Worker:
        """Load CLIP and the preprocessing of crops."""
        from pipeline.models.preprocessing import squashed

        clip = self._clip()
        squash = squashed(self.clip.image_size, "bicubic", clip.device)
        return SupportWorker(self.config, self.shots, self.dataset, clip, squash, self.clip.dim)


@dataclass
class SupportWorker(Worker):
    """Worker that encodes blocks of a support set.

    Holds its settings, vectors and dataset, the loaded CLIP, the preprocessing of crops, and the
    dimension of vectors.
    """

    config: SupportConfig
    shots: list[Shot]
    dataset: Dataset
    clip: ClipModel
    squash: Preprocessing
    dim: int

    def arrays(self) -> list[ArraySpec]:
        """Declare `embeddings` (text, dim)."""
        shape = (len(self.shots), self.dim)
        return [ArraySpec("embeddings", ("text", "dim"), shape, (BLOCK, self.dim), "float32")]

    def environment(self) -> dict[str, Any]:
        """Return device and batch size of CLIP."""
        return self.clip.environment

    def read(self, unit: Unit) -> Tensor:
        """Return the unit's crops or whole images: uint8 (n, 3, side, side)."""
        shots = self.shots[unit.rows]
        if not self.config.passes:
            return self.clip.preprocess.block((self._image(shot), None) for shot in shots)
        flips: list[int] = []
        crops = self.squash.block(self._boxed(shots, flips))
        flipped = np.flatnonzero(flips)
        crops[flipped] = crops[flipped].flip(3)
        return crops

    def _boxed(self, shots: list[Shot], flips: list[int]) -> Iterator[tuple[Image.Image, Any]]:
        """Yield each image with the boxes of its passes (n, 4); add their flips to `flips`."""
        from pipeline.kernels.draws import ATTEMPTS, augmented_crops
        from pipeline.kernels.sampling import layers

        for _, group in groupby(shots, key=lambda shot: (shot.label, shot.path)):
            first, *rest = group
            image, end = self._image(first), first.turn + 1 + len(rest)
            u = layers(self.config.seed, SUPPORT, first.sha256, first.turn, end)
            assert u.shape[1] >= ATTEMPTS
            drawn = augmented_crops(u, *image.size, AREA).numpy()
            flips += drawn[:, 4].tolist()
            yield image, drawn[:, :4]

    def _image(self, shot: Shot) -> Image.Image:
        """Decode an image; AbsError if it cannot be read."""
        contents = self.dataset.contents
        content = read_verified(contents, shot.path, shot.sha256)
        try:
            return decode(content)
        except OSError as error:
            raise AbsError(f"{contents.where(shot.path)}: cannot be read: {error}") from None

    def compute(self, unit: Unit, inputs: Tensor) -> dict[str, Any]:
        """Return the unit's rows, and their unit vectors: float32 (n, dim)."""
        import pandas as pd

        shots = self.shots[unit.rows]
        table = {
            "text_id": range(unit.rows.start, unit.rows.stop),
            "text_set": SUPPORT,
            "label": [shot.label for shot in shots],
            "position": [shot.position for shot in shots],
            "text": [self._name(shot) for shot in shots],
        }
        vectors = self.clip.encode_images(inputs).numpy()
        return {"texts": pd.DataFrame(table), "embeddings": vectors}

    def _name(self, shot: Shot) -> str:
        """Return the path of an image, and its pass if there are several."""
        return f"{shot.path}, pass {shot.turn}" if self.config.passes > 1 else shot.path
