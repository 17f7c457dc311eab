"""Reader of class folders: `<root>/<class>/.../<image>`, labels in the sorted order of folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.listing import (
    UNNAMED,
    Class,
    LayoutNotFound,
    Listing,
    files_below,
    reason_to_skip,
    require_utf8,
    subfolders,
    with_spaces,
)

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Names of folders that are splits, not classes."""
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "split_zhou_*.json")
"""Files that label images which do not lie in class folders."""


def read_folder(root: Path) -> Listing:
    """Read class folders at any depth; names are the folders', underscores replaced with spaces.

    Files that are no images, broken links, and files beside the class folders are listed as
    skipped. Folders named by a number or a WordNet id have no name until `dataset.names` gives one.
    AbsError for splits in place of classes, an empty class, two classes of one name, or a file name
    that is not UTF-8.
    """
    folders = subfolders(root)
    if not folders:
        raise LayoutNotFound(f"no class folders in {root}; expected <class>/<image>.jpg")
    _refuse_other_layouts(root, folders)
    classes = [_class(folder) for folder in folders]
    _refuse_equal_names(root, classes)
    samples: list[tuple[str, int]] = []
    skipped = [
        (require_utf8(file.name), reason_to_skip(file) or "not in a class folder")
        for file in sorted(root.iterdir())
        if not file.is_dir() and not file.name.startswith(".")
    ]
    for label, folder in enumerate(folders):
        before = len(samples)
        for file in files_below(folder):
            path = require_utf8(file.relative_to(root).as_posix())
            if reason := reason_to_skip(file):
                skipped.append((path, reason))
            else:
                samples.append((path, label))
        if len(samples) == before:
            raise MissingInput(
                f"no images in the class folder {folder}; remove the folder or add images"
            )
    return Listing(classes, samples, f"{len(folders)} class folders", skipped=skipped)


def _is_test(folder: Path) -> bool:
    return folder.name.lower().startswith("test")


def _class(folder: Path) -> Class:
    key = require_utf8(folder.name)
    name = "" if UNNAMED.fullmatch(key) else with_spaces(key)
    return Class(key, name, name)


def _refuse_equal_names(root: Path, classes: list[Class]) -> None:
    names = [one.name for one in classes if one.name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise AbsError(f"{root}: two folders are named {twice[0]!r} (underscores are spaces)")


def _refuse_other_layouts(root: Path, folders: list[Path]) -> None:
    names = [folder.name for folder in folders]
    if {name.lower() for name in names} <= SPLITS:
        raise AbsError(
            f"{root}: the folders {', '.join(names)} look like splits, not classes; set "
            f"dataset.root to one of them, such as {max(folders, key=_is_test)}"
        )
    tables = [table for pattern in TABLES for table in sorted(root.glob(pattern))]
    if len(folders) == 1 and tables:
        raise AbsError(
            f"{root}: one folder beside {tables[0].name}, which labels the images; list them in a "
            "table: dataset.reader=manifest with dataset.root the CSV or Parquet file, "
            "dataset.image=file_name and dataset.label its columns"
        )
