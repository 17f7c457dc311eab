"""All readers by name. To add one, write a function in a file of this folder and list it here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.listing import Columns, Listing
from pipeline.datasets.readers.coop import read_coop
from pipeline.datasets.readers.cub import read_cub
from pipeline.datasets.readers.dtd import read_dtd
from pipeline.datasets.readers.folder import read_folder
from pipeline.datasets.readers.food101 import read_food101
from pipeline.datasets.readers.huggingface import read_huggingface
from pipeline.datasets.readers.imagenet import read_imagenet, read_imagenet_part, read_imagenet_v2
from pipeline.datasets.readers.manifest import read_manifest
from pipeline.datasets.readers.pets import read_pets
from pipeline.datasets.readers.places365 import read_places365
from pipeline.datasets.readers.webdataset import read_webdataset

FOLDER_READERS: dict[str, Callable[[Path], Listing]] = {
    "folder": read_folder,
    "imagenet": read_imagenet,
    "imagenet-part": read_imagenet_part,
    "imagenet-v2": read_imagenet_v2,
    "cub": read_cub,
    "oxford-pets": read_pets,
    "dtd": read_dtd,
    "food101": read_food101,
    "places365": read_places365,
}
"""Readers of folders with a fixed layout."""

TABLE_READERS: dict[str, Callable[[Path, Columns], Listing]] = {
    "manifest": read_manifest,
    "huggingface": read_huggingface,
    "webdataset": read_webdataset,
    "coop": read_coop,
}
"""Readers of tables, for which split and columns can be chosen."""

OF_ONE_PLACE = ("folder", "huggingface", "webdataset")
"""Readers whose listing, images included, follows from one place and all of it: no file elsewhere
is read, and none below it belongs to something else."""


def reader_of(config: DatasetConfig, memory: Path | None = None) -> Callable[[Path], Listing]:
    """Return the configured reader, bound to the chosen columns.

    memory: folder in which a reader of shards remembers what each holds; None: nowhere.
    ConfigError for an unknown reader, or columns chosen for a reader of folders.
    """
    name, columns = config.reader, Columns(config.split, config.image, config.label)
    if name == "webdataset":
        return partial(read_webdataset, columns=columns, memory=memory)
    if name in TABLE_READERS:
        return lambda place: TABLE_READERS[name](place, columns)
    if name not in FOLDER_READERS:
        hint = did_you_mean(name, [*FOLDER_READERS, *TABLE_READERS])
        raise ConfigError(f"dataset.reader: unknown reader {name!r}; {hint}")
    if columns != Columns():
        readers = ", ".join(TABLE_READERS)
        raise ConfigError(f"dataset.split, image and label apply only to the readers {readers}")
    if name == "folder":
        return partial(read_folder, folders_are_classes=config.folders_are_classes)
    return FOLDER_READERS[name]
