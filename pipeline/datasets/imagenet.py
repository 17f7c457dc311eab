"""ImageNet's validation set, and those that share its classes: V2, R, A and Sketch.

Labels are places in the sorted list of 1000 wnids, whatever order a tree has. R and A have 200 of
them.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.datasets import devkit
from pipeline.datasets.library import imagenet_classes
from pipeline.datasets.listing import Listing, NotThere, folders, images_in, lines
from pipeline.errors import AbsError

CLASSES = 1000


def read_imagenet(root: Path) -> Listing:
    """The validation set: `<wnid>/<image>`, or all images in one folder with a list of labels.

    The list is `LOC_val_solution.csv`, `imagenet_2012_validation_synset_labels.txt` or the devkit's
    ground truth, beside the folder or in it.
    """
    if any(folder.name in _place() for folder in folders(root)):
        return read_wnids(root)
    files = list(images_in(root))
    if not files:
        raise NotThere(f"{root} has neither folders named by wnids nor images")
    labels = _flat_labels(root, files)
    samples = [(name, _place()[labels[Path(name).stem]]) for name in files]
    return Listing(imagenet_classes(), samples, "all images in one folder")


def read_wnids(root: Path) -> Listing:
    """`<wnid>/<image>`, of all classes or some."""
    found = [folder for folder in folders(root) if folder.name in _place()]
    if not found:
        raise NotThere(f"{root} has no folders named by wnids of ImageNet (such as n01440764)")
    samples = [
        (f"{folder.name}/{name}", _place()[folder.name])
        for folder in found
        for name in images_in(folder)
    ]
    return Listing(imagenet_classes(), samples, f"{len(found)} folders named by wnids")


def read_part(root: Path) -> Listing:
    """ImageNet-A and R: the classes that have a folder; all 1000 compete, or only these."""
    whole = read_wnids(root)
    present = frozenset(label for _, label in whole.samples)
    return replace(whole, present=present)


def read_numbered(root: Path) -> Listing:
    """ImageNet-V2: `<label>/<image>`, the label a number from 0 to 999; or by wnid."""
    numbered = [folder for folder in folders(root) if folder.name.isdecimal()]
    if not numbered:
        return read_wnids(root)
    wrong = [folder.name for folder in numbered if int(folder.name) >= CLASSES]
    if wrong:
        raise AbsError(f"{root}: folder {wrong[0]} is no label of ImageNet (0 to 999)")
    samples = [
        (f"{folder.name}/{name}", int(folder.name))
        for folder in numbered
        for name in images_in(folder)
    ]
    return Listing(imagenet_classes(), sorted(samples), f"{len(numbered)} folders named by labels")


def _flat_labels(root: Path, files: list[str]) -> dict[str, str]:
    """The wnid of each image by the stem of its file name."""
    for place in (root, root.parent, root.parent.parent.parent.parent):
        if (path := place / "LOC_val_solution.csv").is_file():
            with open(path, encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == 2]
            found = {stem: text.split(" ")[0] for stem, text in rows[1:]}
        elif (path := place / "imagenet_2012_validation_synset_labels.txt").is_file():
            found = _numbered(path, lines(path), files)
        elif kit := devkit.labels_in(place):
            path, found = kit, _numbered(kit, devkit.wnids(kit), files)
        else:
            continue
        lost = [name for name in files if found.get(Path(name).stem) not in _place()]
        if lost:
            raise AbsError(f"{path}: no label for {lost[0]} ({len(lost)} of {len(files)} images)")
        return found
    raise NotThere(
        f"{root} has all images in one folder and no list of labels; put LOC_val_solution.csv, "
        "imagenet_2012_validation_synset_labels.txt or ILSVRC2012_devkit_t12 beside it, or sort "
        "the images by wnid"
    )


def _numbered(path: Path, wnids: list[str], files: list[str]) -> dict[str, str]:
    """Line n of the list is of the image whose name ends in the number n."""
    found = {}
    for stem in (Path(name).stem for name in files):
        digits = stem.rpartition("_")[2]
        number = int(digits) if digits.isdecimal() else 0
        if not 1 <= number <= len(wnids):
            raise AbsError(f"{path}: no line for {stem}; it has {len(wnids)}, one per image")
        found[stem] = wnids[number - 1]
    return found


@cache
def _place() -> dict[str, int]:
    return {one.key: label for label, one in enumerate(imagenet_classes())}
