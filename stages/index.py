"""index: which images there are, and which of them can be read.

Reads the dataset's files. Writes `images.parquet` (image_id, path, label, width, height, sha256;
the order of its rows is the order of every array downstream), `classes.parquet` (label, name)
and `skipped.parquet` (file, reason).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.config import Section
from pipeline.datasets import Dataset
from pipeline.errors import AbsError
from pipeline.options import stage_command
from pipeline.stage import WHOLE, Stage, Unit, Worker

if TYPE_CHECKING:
    from pipeline.store import Store


class IndexConfig(Section):
    """How many unreadable files a dataset may have."""

    max_skipped: float = Field(default=0.01, ge=0, le=1)


@dataclass(frozen=True)
class Index(Stage):
    """One table of all readable images."""

    config: IndexConfig
    dataset: Dataset

    kind: ClassVar[str] = "index"
    version: ClassVar[int] = 1
    counts: ClassVar[str] = "datasets"

    def units(self, store: Store) -> list[Unit]:
        """Not divided."""
        return [WHOLE]

    def worker(self, store: Store) -> Worker:
        """Nothing to load."""
        return IndexWorker(self.dataset, self.config.max_skipped)


@dataclass
class IndexWorker(Worker):
    """Decodes every file once, so that later stages meet no broken one."""

    dataset: Dataset
    max_skipped: float

    def read(self, unit: Unit) -> list[tuple[int, int] | str]:
        """(width, height) of each sample, or why it cannot be read."""
        from pipeline.images import decode

        sizes: list[tuple[int, int] | str] = []
        for path, _ in self.dataset.listing[1]:
            try:
                sizes.append(decode(self.dataset.root / path).size)
            except (OSError, ValueError, SyntaxError) as error:
                sizes.append(f"{type(error).__name__}: {error}")
        return sizes

    def compute(self, unit: Unit, inputs: list[tuple[int, int] | str]) -> dict[str, Any]:
        """The three tables; AbsError if too many files are unreadable."""
        import pandas as pd

        names, samples = self.dataset.listing
        images, skipped = [], []
        for (path, label), sha, size in zip(samples, self.dataset.sha256, inputs, strict=True):
            if isinstance(size, str):
                skipped.append((path, size))
            else:
                images.append((path, path, label, *size, sha))
        self._check(skipped, len(samples))
        columns = ["image_id", "path", "label", "width", "height", "sha256"]
        return {
            "images": pd.DataFrame(images, columns=columns),
            "classes": pd.DataFrame({"label": range(len(names)), "name": names}),
            "skipped": pd.DataFrame(skipped, columns=["file", "reason"], dtype="str"),
        }

    def _check(self, skipped: list[tuple[str, str]], of: int) -> None:
        if len(skipped) > self.max_skipped * of:
            file, reason = skipped[0]
            raise AbsError(
                f"{len(skipped)} of {of} images cannot be read, more than index.max_skipped "
                f"({self.max_skipped:.0%}) allows; the first: {file} ({reason})"
            )


command = stage_command("index")
