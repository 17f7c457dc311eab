"""Datasets as files: which images there are, and which class each shows.

A reader turns a folder into class names and samples. It is one function in one file,
registered below. What classes are called, and which others compete with them, is settled in
`classes.py`, whatever the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipeline.config import RUNTIME, Section
from pipeline.datasets.classes import Classes, settle
from pipeline.datasets.contents import Contents, InFolder
from pipeline.datasets.cub import read_cub
from pipeline.datasets.dtd import read_dtd
from pipeline.datasets.folder import read_folder
from pipeline.datasets.food101 import read_food101
from pipeline.datasets.huggingface import read_huggingface
from pipeline.datasets.imagenet import read_imagenet, read_numbered, read_part
from pipeline.datasets.listing import Columns, Listing, NotThere
from pipeline.datasets.manifest import read_manifest
from pipeline.datasets.pets import read_pets
from pipeline.datasets.places365 import read_places365
from pipeline.datasets.webdataset import read_webdataset
from pipeline.errors import AbsError, ConfigError, MissingInput, closest
from pipeline.files import Digests
from pipeline.identity import digest
from pipeline.locations import Paths
from pipeline.progress import Reporter

Samples = list[tuple[str, int]]
"""Path below the root, and label, of each image."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A dataset's name is a folder of the store."""

TREES: dict[str, Callable[[Path], Listing]] = {
    "folder": read_folder,
    "imagenet": read_imagenet,
    "imagenet-part": read_part,
    "imagenet-v2": read_numbered,
    "cub": read_cub,
    "oxford-pets": read_pets,
    "dtd": read_dtd,
    "food101": read_food101,
    "places365": read_places365,
}
"""Readers of folders, in which everything has its place."""

TABLES: dict[str, Callable[[Path, Columns], Listing]] = {
    "manifest": read_manifest,
    "huggingface": read_huggingface,
    "webdataset": read_webdataset,
}
"""Readers of tables, whose columns can be chosen."""


class Published(Section):
    """What the dataset's authors say of it."""

    images: Annotated[int | None, RUNTIME] = None
    classes: Annotated[int | None, RUNTIME] = None


class DatasetConfig(Section):
    """Which dataset. `root` is where it lies; its content is known by digest."""

    name: str = Field(pattern=NAME)
    root: Annotated[tuple[str, ...], RUNTIME, Field(min_length=1)]
    """Where it lies; of several places the first that has what the reader looks for."""
    reader: str = "folder"
    split: Annotated[str | None, RUNTIME] = None
    """Of a table with several: which."""
    image: Annotated[str | None, RUNTIME] = None
    """Of a table: the column of images."""
    label: Annotated[str | None, RUNTIME] = None
    """Of a table: the column of labels."""
    names: Annotated[str | None, RUNTIME] = None
    """A JSON object: what each class that the reader finds is to be called; or a list of names in
    the order of labels."""
    vocabulary: Annotated[str | None, RUNTIME] = None
    """A JSON list of all classes that an image could show, the dataset's own among them."""
    duplicates: Annotated[Literal["kept", "unique"], RUNTIME] = "kept"
    """Classes of one name stay so, and ties go to the first, or go by their longer names."""
    published: Published = Published()

    @field_validator("root", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


def reader_of(config: DatasetConfig) -> Callable[[Path], Listing]:
    """The reader that the settings name, with the columns they choose; ConfigError without one."""
    name, columns = config.reader, Columns(config.split, config.image, config.label)
    if name in TABLES:
        return lambda place: TABLES[name](place, columns)
    if name not in TREES:
        raise ConfigError(
            f"dataset.reader: unknown reader {name!r}; {closest(name, [*TREES, *TABLES])}"
        )
    if columns != Columns():
        readers = ", ".join(TABLES)
        raise ConfigError(f"dataset.split, image and label are for the readers {readers}")
    return TREES[name]


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk; listing and digests are computed once, when first asked for."""

    config: DatasetConfig
    paths: Paths
    digests: Digests

    @property
    def root(self) -> Path:
        """The folder of images."""
        return self._found[0]

    @property
    def listing(self) -> Listing:
        """What the reader found there."""
        return self._found[1]

    @property
    def contents(self) -> Contents:
        """The bytes of the images."""
        return self.listing.contents or InFolder(self.root)

    @property
    def others(self) -> list[Path]:
        """Further places of `dataset.root` that are there and were not taken."""
        return [place for place in self._places if place.exists() and place != self.root]

    @property
    def _places(self) -> list[Path]:
        """Everywhere the dataset may lie, in the order in which it is looked for."""
        return [place.absolute() for each in self.config.root for place in self.paths.places(each)]

    @cached_property
    def _found(self) -> tuple[Path, Listing]:
        reader, reasons = reader_of(self.config), []
        for place in self._places:
            if place.exists():
                try:
                    return place if place.is_dir() else place.parent, reader(place)
                except NotThere as reason:
                    reasons.append(str(reason))
        raise self._missing(reasons)

    def _missing(self, reasons: list[str]) -> MissingInput:
        if reasons:
            return MissingInput(f"dataset {self.config.name!r}: {'; '.join(reasons)}")
        return MissingInput(
            f"images of dataset {self.config.name!r} not found: looked for "
            f"{', '.join(map(str, self._places))}; "
            "set ABS_DATA (make: DATA=) or dataset.root"
        )

    @property
    def classes(self) -> Classes:
        """The class names as an input of its own."""
        return self._settled[0]

    @property
    def samples(self) -> Samples:
        """Path and label of each image."""
        return self._settled[1]

    @cached_property
    def _settled(self) -> tuple[Classes, Samples, list[tuple[str, str]]]:
        names, vocabulary = self._file("names"), self._file("vocabulary")
        unique = self.config.duplicates == "unique"
        classes, place = settle(self.listing, names, vocabulary, unique)
        samples, skipped = [], list(self.listing.skipped)
        for path, label in self.listing.samples:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise AbsError(f"{self.root}: {path!r}, which is listed, leaves the folder")
            if self.contents.has(path):
                samples.append((path, place[label]))
            else:
                skipped.append((path, "listed, but not there"))
        if not samples:
            raise MissingInput(f"{self.root}: none of {len(skipped)} listed images is there")
        return classes, samples, skipped

    def _file(self, field: str) -> Path | None:
        path = getattr(self.config, field)
        return path and self.paths.find(path, f"class {field}", f"dataset.{field}")

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Files that are no samples, and why."""
        return self._settled[2]

    @cached_property
    def sha256(self) -> list[str]:
        """Digest of each sample's file; shows how far it is."""
        paths = [path for path, _ in self.samples]
        with Reporter().stage(f"reading {self.config.name}", len(paths), "images") as advance:
            return self.digests.sha256_many(self.contents, paths, advance)

    def identity(self) -> dict[str, Any]:
        """Digest of paths, labels and contents. Neither where the root lies nor what classes are
        called matters."""
        return {"name": self.config.name, "files": self._digest}

    @cached_property
    def _digest(self) -> str:
        samples = zip(self.samples, self.sha256, strict=True)
        rows = [[path, label, sha] for (path, label), sha in samples]
        return digest([[one.key for one in self.listing.classes], rows, self.skipped])
