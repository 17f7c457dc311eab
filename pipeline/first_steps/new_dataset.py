"""Write the settings of a user's own dataset from its images."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pipeline.core import files
from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.core.hash_cache import HashCache
from pipeline.core.layers import own_cfgs
from pipeline.core.paths import Paths
from pipeline.datasets.config import NAME, DatasetConfig
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.listing import has_images, subfolders
from pipeline.datasets.readers.coop import split_files_at
from pipeline.datasets.readers.huggingface import is_huggingface
from pipeline.datasets.readers.manifest import READERS, labels_images, table_at
from pipeline.datasets.readers.webdataset import shards_below
from pipeline.texts.readers import read_templates, read_texts

TEMPLATES = ("zeroshot_classification_templates.txt", "templates.txt")
"""Files of templates, one per line, that CLIP_benchmark keeps beside shards."""
HEADER = "# Written by `abs init`. docs/datasets.md says what else can be set.\n\n"


def write_dataset(
    name: str,
    images: Path,
    *,
    reader: str | None = None,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    names: Path | None = None,
    folders_are_classes: bool = False,
    descriptions: Path | None = None,
    force: bool = False,
) -> tuple[Path, Dataset]:
    """Write `cfgs/datasets/<name>.yaml` for images that are there; its path, and the dataset.

    images: a folder of class folders, a table with the columns path and label, a split of CoOp, a
    dataset of the Hugging Face library, or WebDataset shards; or what `reader` reads. ConfigError
    for a name that cannot be one or a choice that has to be made, AbsError for a file that exists.
    """
    if not re.fullmatch(NAME, name) or name.endswith((".yaml", ".yml")):
        raise ConfigError(f"{name!r} cannot be a dataset's name: letters, digits, dots and hyphens")
    path = own_cfgs() / "datasets" / f"{name}.yaml"
    if path.exists() and not force:
        raise AbsError(f"{path} is there already; choose another name or give --force")
    if not images.exists():
        raise MissingInput(f"no folder or table at {images}")
    given = {
        "reader": reader or detected_reader(images),
        "split": split,
        "image": image_column,
        "label": label_column,
        "names": names and str(names.absolute()),
        "folders_are_classes": folders_are_classes or None,
    }
    chosen = {field: value for field, value in given.items() if value is not None}
    dataset = {"name": name, "root": str(images.absolute()), **chosen}
    paths = Paths()
    memory = HashCache(paths.memory(name))
    found = Dataset(DatasetConfig.model_validate(dataset), paths, memory)
    _ = found.samples  # looks for every image
    content: dict[str, object] = {"dataset": dataset}
    if texts := _text_files(descriptions, templates_beside(images)):
        content["descriptions"] = texts
    text = HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, text.encode())
    return path, found


def templates_beside(images: Path) -> Path | None:
    """Return the file of templates of a folder of shards, which becomes the text set `clip-e`."""
    files = [images / name for name in TEMPLATES] if detected_reader(images) == "webdataset" else []
    return next((file.absolute() for file in files if file.is_file()), None)


def _text_files(descriptions: Path | None, templates: Path | None) -> dict[str, object]:
    """Return the section `descriptions` for files that can be read; AbsError for others."""
    texts: dict[str, object] = {}
    if templates is not None:
        read_templates(templates)
        texts["clip-e"] = {"file": str(templates)}
    if descriptions is not None:
        read_texts(descriptions, "descriptions", empty=True)
        texts["cupl"] = {"file": str(descriptions.absolute())}
    return texts


def detected_reader(images: Path) -> str:
    """Return the name of the reader of what is there; AbsError for a file that none reads."""
    if is_huggingface(images):
        return "huggingface"
    if split_files_at(images):
        return "coop"
    folders = subfolders(images) if images.is_dir() else []
    table = table_at(images)
    if table and (not folders or table.stem == "manifest" or labels_images(table)):
        return "manifest"
    if any(has_images(folder, images) for folder in folders):
        return "folder"  # an archive beside the images is not what is meant
    if images.is_file():
        raise AbsError(
            f"{images} is no folder, no table ({', '.join(READERS)}) and no split of CoOp; "
            "if it is a shard, give its folder"
        )
    return "webdataset" if shards_below(images) else "folder"
