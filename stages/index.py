"""index: list the images of a dataset and find those that cannot be read.

Reads the dataset's files. A unit is a block of 512 files; each is decoded once, for its size.

Writes two tables:

    images.parquet    image_id, path, sha256 (str), label, width, height (int64, pixels)
    skipped.parquet   file, reason (str) of files that are not listed or cannot be read

The order of the rows of `images` is the order of every array over images downstream. Class names
are no part of the index. Settings: sections `index` and `dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.core.errors import AbsError, storable_reason
from pipeline.core.section import Section
from pipeline.core.threads import READERS, prefetch, readers
from pipeline.core.under_way import each
from pipeline.core.words import counted
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import decode, read_verified
from pipeline.datasets.listing import NOT_AN_IMAGE
from pipeline.options import stage_command
from pipeline.stage import Stage, Worker
from pipeline.store.units import Unit, Units, row_units

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.datasets.classes import Classes
    from pipeline.datasets.contents import Contents
    from pipeline.store.artifact import Artifact
    from pipeline.store.store import Store


BLOCK = 512
"""Files per unit."""

IMAGES = {
    "image_id": "str",
    "path": "str",
    "label": "int64",
    "width": "int64",
    "height": "int64",
    "sha256": "str",
}
"""Columns of `images.parquet`."""


class IndexConfig(Section):
    """Section `index`."""

    max_skipped: float = Field(default=0.01, ge=0, le=1)
    """Share of unreadable files above which the stage fails."""


@dataclass(frozen=True)
class Index(Stage):
    """One table of all readable images."""

    config: IndexConfig
    dataset: Dataset

    kind: ClassVar[str] = "index"
    version: ClassVar[int] = 2

    def units(self, store: Store) -> Units:
        """Divide the files into blocks."""
        return row_units(self.dataset.count, BLOCK)

    def worker(self, store: Store) -> Worker:
        """Return a worker; there is nothing to load."""
        return IndexWorker(self.dataset)

    def verify(self, artifact: Artifact) -> None:
        """Raise AbsError if too many files are unreadable."""
        skipped = artifact.table("skipped", finished=False)
        skipped = skipped[skipped["reason"] != NOT_AN_IMAGE]
        files = len(self.dataset.samples) + len(self.dataset.skipped)
        if len(skipped) > self.config.max_skipped * files:
            first = skipped.iloc[0]
            raise AbsError(
                f"{len(skipped)} of {files} images cannot be read, more than index.max_skipped "
                f"({self.config.max_skipped:.0%}) allows; the first: {first.file} ({first.reason})"
            )

    def remarks(self, artifact: Artifact) -> list[str]:
        """Return how many files were skipped and why, and which classes have no image."""
        columns = ["label", "sha256", "path"]
        images = partial(artifact.pieces, "images", columns, finished=False)
        skipped = artifact.table("skipped", finished=False)
        return [*_skipped(skipped), *warnings(self.dataset.classes, images)]

    def figures(self, artifact: Artifact) -> dict[str, int]:
        """Return the number of skipped files."""
        return {"skipped": len(artifact.table("skipped", finished=False))}


def skipped_files(artifact: Artifact) -> int:
    """Return the number of skipped files of a finished index; those of older ones are counted."""
    stated = artifact.manifest.get("figures")
    return int(stated["skipped"]) if stated else len(artifact.table("skipped"))


def _skipped(skipped: pd.DataFrame) -> list[str]:
    if skipped.empty:
        return []
    reasons = skipped["reason"].value_counts()
    counts = [f"{count:,} {reason}" for reason, count in reasons.head(3).items()]
    if others := int(reasons.iloc[3:].sum()):
        counts.append(f"{others:,} for other reasons")
    return [f"{counted(len(skipped), 'files')} skipped: {', '.join(counts)}"]


def warnings(classes: Classes, images: Callable[[], Iterable[pd.DataFrame]]) -> list[str]:
    """Return possible faults of the labels of images, a line each.

    Classes of the dataset without an image, images of one class alone, and files with the same
    bytes in several classes. Names of classes are no part of the index, so none is given.
    `images` yields the table in pieces, with label, sha256 and path.
    """
    seen, starts = set[int](), [np.zeros(0, np.uint64)]
    for piece in images():
        seen.update(piece["label"].unique().tolist())
        starts.append(_first_digits(piece["sha256"]))
    return [*_class_warnings(classes, seen), *_contradictions(images, _repeated(starts))]


def _first_digits(digests: pd.Series) -> np.ndarray:
    """Return the first 16 digits of sha256 in hex, as numbers: uint64 (n,)."""
    return np.fromiter((int(sha256[:16], 16) for sha256 in digests), np.uint64, len(digests))


def _repeated(parts: list[np.ndarray]) -> np.ndarray:
    """Return the numbers that are there more than once among all parts, sorted."""
    numbers = np.concatenate(parts)
    numbers.sort()  # in place: a copy would be the largest thing in memory
    return np.unique(numbers[1:][numbers[1:] == numbers[:-1]])


def _contradictions(
    images: Callable[[], Iterable[pd.DataFrame]], repeated: np.ndarray
) -> list[str]:
    """Return a line if images of equal bytes have several labels.

    repeated: the first digits that several digests have; no others are compared in whole.
    """
    import pandas as pd

    if not len(repeated):
        return []
    alike = [each[np.isin(_first_digits(each["sha256"]), repeated)] for each in images()]
    return _several_labels(pd.concat(alike, ignore_index=True))


def _several_labels(images: pd.DataFrame) -> list[str]:
    several = images.drop_duplicates(["sha256", "label"])
    several = several[several.duplicated("sha256", keep=False)]
    if several.empty:
        return []
    first, other = several["path"][several["sha256"] == several["sha256"].iloc[0]][:2]
    count = int(images["sha256"].isin(several["sha256"]).sum())
    return [f"{count:,} images have the bytes of one in another class, such as {first} and {other}"]


def _class_warnings(classes: Classes, seen: set[int]) -> list[str]:
    empty = [
        label for label, present in enumerate(classes.present) if present and label not in seen
    ]
    lines = [f"{len(empty):,} of {sum(classes.present):,} classes have no image"] if empty else []
    return [*lines, "all images are of one class"] if len(seen) == 1 else lines


@dataclass
class IndexWorker(Worker):
    """Worker that decodes every file once, so that later stages meet no damaged one.

    Holds the dataset: its samples, their digests and access to their bytes.
    """

    dataset: Dataset

    def read(self, unit: Unit) -> list[tuple[int, int] | str]:
        """Return (width, height) of each sample, or the reason why it cannot be read."""
        paths = [path for path, _ in self.dataset.samples[unit.rows]]
        files = zip(paths, self.dataset.sha256_of_images()[unit.rows], strict=True)
        sizes = prefetch(readers(), partial(_size, self.dataset.contents), files, depth=READERS)
        return [size.result() for _, size in each(sizes, len(paths))]

    def compute(self, unit: Unit, inputs: list[tuple[int, int] | str]) -> dict[str, Any]:
        """Return both tables; files that the dataset's reader skipped come with the first unit."""
        import pandas as pd

        samples = self.dataset.samples
        images, skipped = [], list(self.dataset.skipped) if unit.rows.start == 0 else []
        shas = self.dataset.sha256_of_images()[unit.rows]
        for (path, label), sha, size in zip(samples[unit.rows], shas, inputs, strict=True):
            if isinstance(size, str):
                skipped.append((path, size))
            else:
                images.append((path, path, label, *size, sha))
        return {
            "images": pd.DataFrame(images, columns=list(IMAGES)).astype(IMAGES),
            "skipped": pd.DataFrame(skipped, columns=["file", "reason"], dtype="str"),
        }


def _size(contents: Contents, file: tuple[str, str]) -> tuple[int, int] | str:
    content = read_verified(contents, *file)
    try:
        return decode(content).size
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        return storable_reason(error)


command = stage_command("index", "List all readable images of a dataset.", __doc__)
