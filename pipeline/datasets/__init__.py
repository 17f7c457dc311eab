"""Datasets as files: which images there are, and which class each shows.

A reader turns a folder into class names and samples. It is one function in one file,
registered below. What classes are called, and which others compete with them, is settled in
`classes.py`, whatever the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config import RUNTIME, Section
from pipeline.datasets.classes import Classes, settle
from pipeline.datasets.folder import read_folder
from pipeline.errors import ConfigError, closest
from pipeline.files import Digests
from pipeline.identity import digest
from pipeline.locations import Paths

Samples = list[tuple[str, int]]
"""Path below the root, and label, of each image."""

Listing = tuple[list[str], Samples]
"""Class names in label order, and the samples."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A dataset's name is a folder of the store."""

READERS: dict[str, Callable[[Path], Listing]] = {"folder": read_folder}


class DatasetConfig(Section):
    """Which dataset. `root` is where it lies; its content is known by digest."""

    name: str = Field(pattern=NAME)
    root: Annotated[str, RUNTIME, Field(min_length=1)]
    reader: str = "folder"
    names: Annotated[str | None, RUNTIME] = None
    """A JSON object: what each class that the reader finds is to be called."""
    vocabulary: Annotated[str | None, RUNTIME] = None
    """A JSON list of all classes that an image could show, the dataset's own among them."""
    duplicates: Annotated[Literal["kept", "unique"], RUNTIME] = "kept"
    """Classes of one name stay so, and ties go to the first, or go by the reader's own names."""


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk; listing and digests are computed once, when first asked for."""

    config: DatasetConfig
    paths: Paths
    digests: Digests

    @cached_property
    def root(self) -> Path:
        """The folder of images."""
        what = f"images of dataset {self.config.name!r}"
        return self.paths.find(self.config.root, what, "dataset.root or ABS_DATA")

    @property
    def classes(self) -> Classes:
        """The class names as an input of its own."""
        return self._settled[0]

    @property
    def samples(self) -> Samples:
        """Path and label of each image."""
        return self._settled[1]

    @cached_property
    def _settled(self) -> tuple[Classes, Samples]:
        reader = READERS.get(self.config.reader)
        if reader is None:
            hint = closest(self.config.reader, READERS)
            raise ConfigError(f"dataset.reader: unknown reader {self.config.reader!r}; {hint}")
        found, samples = reader(self.root)
        names, vocabulary = self._file("names"), self._file("vocabulary")
        classes, place = settle(found, names, vocabulary, self.config.duplicates == "unique")
        return classes, [(path, place[label]) for path, label in samples]

    def _file(self, field: str) -> Path | None:
        path = getattr(self.config, field)
        return path and self.paths.find(path, f"class {field}", f"dataset.{field}")

    @cached_property
    def sha256(self) -> list[str]:
        """Digest of each sample's file."""
        return self.digests.sha256_many(self.root / path for path, _ in self.samples)

    def identity(self) -> dict[str, Any]:
        """Digest of names, paths, labels and contents; where the root lies does not matter."""
        samples = zip(self.samples, self.sha256, strict=True)
        rows = [[path, label, sha] for (path, label), sha in samples]
        content = [self.classes.names, self.classes.present, rows]
        return {"name": self.config.name, "files": digest(content)}
