"""Reader of class folders: `<root>/<class>/.../<image>`, labels in the sorted order of folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.listing import (
    UNNAMED,
    Class,
    LayoutNotFound,
    Listing,
    files_beside,
    images_below,
    normal_form,
    refuse_spellings,
    require_utf8,
    subfolders,
    with_spaces,
)
from pipeline.datasets.readers.coop import split_files_at
from pipeline.datasets.readers.manifest import labels_images, table_at

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Names of folders that are splits, not classes."""


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
    refuse_spellings((one.key for one in classes), f"{root}: the folders")
    samples: list[tuple[str, int]] = []
    skipped = files_beside(root, "not in a class folder")
    for label, folder in enumerate(folders):
        images, others = images_below(folder, root)
        if not images:
            raise MissingInput(
                f"no images in the class folder {folder}; remove the folder or add images"
            )
        samples += [(path, label) for path in images]
        skipped += others
    return Listing(classes, samples, f"{len(folders)} class folders", skipped=skipped)


def _is_test(folder: Path) -> bool:
    return folder.name.lower().startswith("test")


def _class(folder: Path) -> Class:
    key = require_utf8(folder.name)
    name = "" if UNNAMED.fullmatch(normal_form(key)) else with_spaces(key)
    return Class(key, name, name)


def _refuse_other_layouts(root: Path, folders: list[Path]) -> None:
    names = [folder.name for folder in folders]
    if {name.lower() for name in names} <= SPLITS:
        raise AbsError(
            f"{root}: the folders {', '.join(names)} look like splits, not classes; set "
            f"dataset.root to one of them, such as {max(folders, key=_is_test)}"
        )
    if splits := split_files_at(root):
        raise AbsError(
            f"{root}: {splits[0].name} labels the images, not the folders; set "
            f"dataset.reader=coop, or dataset.root to the folder of the class folders"
        )
    table = table_at(root)
    if table and (len(folders) == 1 or labels_images(table)):
        raise AbsError(
            f"{root}: {table.name} labels the images, not the folders; set "
            f"dataset.reader=manifest, with dataset.image and dataset.label for its columns, or "
            "move it elsewhere to take the folders as classes"
        )
