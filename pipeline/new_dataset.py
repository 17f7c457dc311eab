"""A dataset of one's own: its settings, from a folder of class folders or a table of images."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pipeline import files
from pipeline.datasets import NAME
from pipeline.datasets.folder import read_folder
from pipeline.datasets.listing import Listing
from pipeline.datasets.manifest import read_manifest
from pipeline.errors import AbsError, ConfigError, MissingInput
from pipeline.settings import CFGS
from pipeline.texts import read_texts

HEADER = "# Written by `abs init`. README.md says what else can be set.\n\n"


def write_dataset(
    name: str, images: Path, descriptions: Path | None, force: bool
) -> tuple[Path, Listing]:
    """Write `cfgs/datasets/<name>.yaml` for images that are there; its path, and what was found.

    images: a folder of class folders, or a table with the columns path and label, or its folder.
    Raises ConfigError for a name that cannot be one, AbsError for what is there already.
    """
    if not re.fullmatch(NAME, name) or name.endswith((".yaml", ".yml")):
        raise ConfigError(f"{name!r} cannot be a dataset's name: letters, digits, dots and hyphens")
    path = CFGS / "datasets" / f"{name}.yaml"
    if path.exists() and not force:
        raise AbsError(f"{path} is there already; choose another name or give --force")
    if not images.exists():
        raise MissingInput(f"no folder or table at {images}")
    reader = _reader(images)
    found = read_manifest(images) if reader == "manifest" else read_folder(images)
    dataset = {"name": name, "root": str(images.absolute()), "reader": reader}
    content: dict[str, object] = {"dataset": dataset}
    if descriptions is not None:
        read_texts(descriptions, "descriptions", empty=True)
        content["descriptions"] = {"cupl": {"file": str(descriptions.absolute())}}
    text = HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    files.write_atomic(path, text.encode())
    return path, found


def _reader(images: Path) -> str:
    tables = (images, images / "manifest.csv", images / "manifest.parquet")
    return "manifest" if any(table.is_file() for table in tables) else "folder"
