"""Reader of class folders: `<root>/<class>/<image>`, labels in the sorted order of folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.listing import (
    Class,
    LayoutNotFound,
    Listing,
    broken_links,
    images_in,
    require_utf8,
    subfolders,
    with_spaces,
)


def read_folder(root: Path) -> Listing:
    """Read class folders; names are the folders', underscores replaced with spaces.

    AbsError for an empty class, two classes of one name, or a file name that is not UTF-8. Broken
    links and images beside the class folders are listed as skipped.
    """
    folders = subfolders(root)
    if not folders:
        raise LayoutNotFound(f"no class folders in {root}; expected <class>/<image>.jpg")
    names = [with_spaces(require_utf8(folder.name)) for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise AbsError(f"{root}: two folders are named {name!r} (underscores are spaces)")
    classes = [Class(folder.name, name, name) for folder, name in zip(folders, names, strict=True)]
    samples, skipped = [], [(name, "not in a class folder") for name in images_in(root)]
    for label, folder in enumerate(folders):
        images = list(images_in(folder))
        if not images:
            raise MissingInput(
                f"no images in the class folder {folder}; remove the folder or add images"
            )
        samples += [(f"{folder.name}/{name}", label) for name in images]
        skipped += [
            (f"{folder.name}/{n}", "a link that leads nowhere") for n in broken_links(folder)
        ]
    return Listing(classes, samples, f"{len(folders)} class folders", skipped=skipped)
