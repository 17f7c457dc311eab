"""Reader of class folders: `<root>/<class>/.../<image>`, labels in the sorted order of folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.labels import WORD, is_value
from pipeline.datasets.listing import (
    UNNAMED,
    Class,
    LayoutNotFound,
    Listing,
    files_beside,
    images_below,
    normal_form,
    own_folders,
    require_utf8,
    with_spaces,
)
from pipeline.datasets.readers.coop import split_files_at
from pipeline.datasets.readers.manifest import is_table, labels_images, table_at
from pipeline.datasets.readers.parts import refuse_parts
from pipeline.datasets.samples import Samples


def read_folder(root: Path, folders_are_classes: bool = False) -> Listing:
    """Read class folders at any depth; names are the folders', underscores replaced with spaces.

    Files that are no images, broken links, links within the dataset, and files beside the class
    folders are listed as skipped. Folders named by a WordNet id, a number or another value have no
    name until `dataset.names` gives one.

    AbsError for a table of labels beside the folders, an empty class, or a file name that is not
    UTF-8; unless `folders_are_classes`, for parts of a dataset in place of classes.
    """
    folders, linked = own_folders(root)
    _refuse_tables(root, folders)
    if not folders:
        raise LayoutNotFound(f"no class folders in {root}; expected <class>/<image>.jpg")
    if not folders_are_classes:
        refuse_parts(root, folders)
    classes = [_class(folder) for folder in folders]
    samples = Samples()
    skipped = files_beside(root, "not in a class folder") + linked
    for label, folder in enumerate(folders):
        images, others = images_below(folder, root)
        if not images:
            raise MissingInput(
                f"no images in the class folder {folder}; remove the folder or add images"
            )
        samples.extend((path, label) for path in images)
        skipped += others
    return Listing(classes, samples, f"{len(folders)} class folders", skipped=skipped)


def _class(folder: Path) -> Class:
    key, plain = require_utf8(folder.name), normal_form(folder.name)
    value = is_value(plain) and not WORD.fullmatch(plain)
    name = "" if value or UNNAMED.fullmatch(plain) else with_spaces(key)
    return Class(key, name, name)


def _refuse_tables(root: Path, folders: list[Path]) -> None:
    """Raise AbsError if a table in `root` labels the images."""
    if splits := split_files_at(root):
        raise AbsError(
            f"{root}: {splits[0].name} labels the images, not the folders; set "
            f"dataset.reader=coop, or dataset.root to the folder of the class folders"
        )
    usual = table_at(root)
    labelling = usual if usual and len(folders) < 2 else _labelling_table(root)
    if labelling:
        raise AbsError(
            f"{root}: {labelling.name} labels the images, not the folders; set "
            f"dataset.reader=manifest and dataset.root={labelling}, with dataset.image and "
            "dataset.label for its columns, or move it elsewhere to take the folders as classes"
        )


def _labelling_table(root: Path) -> Path | None:
    """Return the first table in `root` with columns of paths and labels."""
    tables = (path for path in sorted(root.iterdir()) if is_table(path) and path.is_file())
    return next((table for table in tables if _labels_images(table)), None)


def _labels_images(table: Path) -> bool:
    try:
        return labels_images(table)
    except AbsError:  # what cannot be read labels nothing
        return False
