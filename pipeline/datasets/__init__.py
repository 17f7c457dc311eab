"""Datasets as files: which images there are, and which class each shows.

A reader turns a folder into class names and samples. It is one function in one file,
registered below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.config import RUNTIME, Section
from pipeline.datasets.folder import read_folder
from pipeline.errors import ConfigError, closest
from pipeline.files import Digests
from pipeline.identity import digest
from pipeline.locations import Paths

Listing = tuple[list[str], list[tuple[str, int]]]
"""Class names in label order, and (path below the root, label) of each image."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A dataset's name is a folder of the store."""

READERS: dict[str, Callable[[Path], Listing]] = {"folder": read_folder}


class DatasetConfig(Section):
    """Which dataset. `root` is where it lies; its content is known by digest."""

    name: str = Field(pattern=NAME)
    root: Annotated[str, RUNTIME, Field(min_length=1)]
    reader: str = "folder"


@dataclass(frozen=True)
class ClassNames:
    """The class names alone, in label order: all that descriptions depend on."""

    names: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """Digest of the names in their order."""
        return {"classes": digest(self.names)}


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

    @cached_property
    def listing(self) -> Listing:
        """Class names and samples as the reader finds them."""
        reader = READERS.get(self.config.reader)
        if reader is None:
            hint = closest(self.config.reader, READERS)
            raise ConfigError(f"dataset.reader: unknown reader {self.config.reader!r}; {hint}")
        return reader(self.root)

    @property
    def classes(self) -> ClassNames:
        """The class names as an input of its own."""
        return ClassNames(tuple(self.listing[0]))

    @cached_property
    def sha256(self) -> list[str]:
        """Digest of each sample's file."""
        return self.digests.sha256_many(self.root / path for path, _ in self.listing[1])

    def identity(self) -> dict[str, Any]:
        """Digest of names, paths, labels and contents; where the root lies does not matter."""
        names, samples = self.listing
        rows = [[path, label, sha] for (path, label), sha in zip(samples, self.sha256, strict=True)]
        return {"name": self.config.name, "files": digest([names, rows])}
