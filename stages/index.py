"""index: which images there are, and which of them can be read.

Reads the dataset's files. Writes `images.parquet` (image_id, path, label, width, height, sha256;
the order of its rows is the order of every array downstream) and `skipped.parquet` (file, reason).
What classes are called is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.config import Section
from pipeline.datasets import Dataset
from pipeline.errors import AbsError
from pipeline.flow import READERS, ahead, readers
from pipeline.options import stage_command
from pipeline.stage import Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.datasets.contents import Contents
    from pipeline.store import Store


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
    """How many unreadable files a dataset may have."""

    max_skipped: float = Field(default=0.01, ge=0, le=1)


@dataclass(frozen=True)
class Index(Stage):
    """One table of all readable images."""

    config: IndexConfig
    dataset: Dataset

    kind: ClassVar[str] = "index"
    version: ClassVar[int] = 2

    def units(self, store: Store) -> list[Unit]:
        """Blocks of files."""
        return row_units(len(self.dataset.samples), BLOCK)

    def worker(self, store: Store) -> Worker:
        """Nothing to load."""
        return IndexWorker(self.dataset)

    def verify(self, artifact: Artifact) -> None:
        """AbsError if too many files are unreadable."""
        skipped = artifact.table("skipped", finished=False)
        files = len(self.dataset.samples) + len(self.dataset.skipped)
        if len(skipped) > self.config.max_skipped * files:
            first = skipped.iloc[0]
            raise AbsError(
                f"{len(skipped)} of {files} images cannot be read, more than index.max_skipped "
                f"({self.config.max_skipped:.0%}) allows; the first: {first.file} ({first.reason})"
            )


@dataclass
class IndexWorker(Worker):
    """Decodes every file once, so that later stages meet no broken one."""

    dataset: Dataset

    def read(self, unit: Unit) -> list[tuple[int, int] | str]:
        """(width, height) of each sample, or why it cannot be read."""
        paths = [path for path, _ in self.dataset.samples[unit.rows]]
        files = zip(paths, self.dataset.sha256[unit.rows], strict=True)
        sizes = ahead(readers(), partial(_size, self.dataset.contents), files, depth=READERS)
        return [size.result() for _, size in sizes]

    def compute(self, unit: Unit, inputs: list[tuple[int, int] | str]) -> dict[str, Any]:
        """The tables; what the reader skipped comes with the first unit."""
        import pandas as pd

        samples = self.dataset.samples
        images, skipped = [], list(self.dataset.skipped) if unit.rows.start == 0 else []
        shas = self.dataset.sha256[unit.rows]
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
    from pipeline.images import decode, read_verified

    content = read_verified(contents, *file)
    try:
        return decode(content).size
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        return f"{type(error).__name__}: {error}"


command = stage_command("index")
