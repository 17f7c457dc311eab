"""A folder of class folders: `<root>/<class>/<image>`; labels in sorted order of the folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.listing import (
    Class,
    Listing,
    NotThere,
    as_text,
    dead_links,
    folders,
    images_in,
    spaced,
)
from pipeline.errors import AbsError, MissingInput


def read_folder(root: Path) -> Listing:
    """Classes (folder names, underscores read as spaces) and images, sorted by path.

    AbsError for what would be wrong without a word: an empty class, two of one name, a file name
    that cannot be stored as text. Links that lead nowhere and images beside the class folders are
    listed as skipped.
    """
    found = folders(root)
    if not found:
        raise NotThere(f"no class folders in {root}; expected <class>/<image>.jpg")
    names = [spaced(as_text(folder.name)) for folder in found]
    for name in names:
        if names.count(name) > 1:
            raise AbsError(f"{root}: two folders are named {name!r}, spaces and underscores alike")
    classes = [Class(folder.name, name, name) for folder, name in zip(found, names, strict=True)]
    samples, skipped = [], [(name, "not in a class folder") for name in images_in(root)]
    for label, folder in enumerate(found):
        inside = list(images_in(folder))
        if not inside:
            raise MissingInput(f"no images in the class folder {folder}; remove it or fill it")
        samples += [(f"{folder.name}/{name}", label) for name in inside]
        skipped += [(f"{folder.name}/{n}", "a link that leads nowhere") for n in dead_links(folder)]
    return Listing(classes, samples, f"{len(found)} class folders", skipped=skipped)
