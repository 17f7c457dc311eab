"""Readers of ImageNet's validation set and the sets that share its classes: V2, R, A and Sketch.

Labels are positions in the sorted list of 1000 wnids, independent of the order of folders. R and A
have 200 of the classes. Images outside the folders of classes are listed as skipped. Files of other
kinds are not, because the published trees have some (README.txt of R and A).
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import (
    NOT_AN_IMAGE,
    LayoutNotFound,
    Listing,
    files_beside,
    images_below,
    own_folders,
    read_lines,
    subfolders,
)
from pipeline.datasets.open_clip_lists import imagenet_classes
from pipeline.datasets.readers import devkit

CLASSES = 1000
OUTSIDE = "not in a folder of a class of ImageNet"


def read_imagenet(root: Path) -> Listing:
    """Read the validation set: `<wnid>/<image>`, or all images in one folder with a list of labels.

    The list is `LOC_val_solution.csv`, `imagenet_2012_validation_synset_labels.txt` or the devkit's
    ground truth, beside the folder or in it.
    """
    if any(folder.name in _labels() for folder in subfolders(root)):
        return read_wnids(root)
    beside = files_beside(root, "")
    files = [name for name, reason in beside if not reason]
    if not files:
        raise LayoutNotFound(f"{root} has neither folders named by wnids nor images")
    wnids = _wnids_of_files(root, files)
    folders, linked = own_folders(root)
    skipped = [(name, reason) for name, reason in beside if reason] + linked
    for folder in folders:
        images, others = images_below(folder, root)
        skipped += [*((path, OUTSIDE) for path in images), *others]
    samples = [(name, _labels()[wnids[Path(name).stem]]) for name in files]
    return _listing(samples, "all images in one folder", skipped)


def read_wnids(root: Path) -> Listing:
    """Read `<wnid>/<image>`, with folders of all classes or some; all 1000 classes compete."""
    names = [folder.name for folder in own_folders(root)[0]]
    by_wnid = {name: _labels()[name] for name in names if name in _labels()}
    if not by_wnid:
        raise LayoutNotFound(
            f"{root} has no folders named by wnids of ImageNet (such as n01440764)"
        )
    return _in_class_folders(root, by_wnid, f"{len(by_wnid)} folders named by wnids")


def read_imagenet_part(root: Path) -> Listing:
    """Read ImageNet-A or R: only classes that have a folder are present in the dataset.

    `scores.classes` decides whether all 1000 compete, or only these.
    """
    whole = read_wnids(root)
    present = frozenset(label for _, label in whole.samples)
    return replace(whole, present=present)


def read_imagenet_v2(root: Path) -> Listing:
    """Read ImageNet-V2: `<label>/<image>` with labels 0 to 999, or `<wnid>/<image>`."""
    numbered = [folder for folder in own_folders(root)[0] if folder.name.isdecimal()]
    if not numbered:
        return read_wnids(root)
    wrong = [folder.name for folder in numbered if int(folder.name) >= CLASSES]
    if wrong:
        raise AbsError(f"{root}: folder {wrong[0]} is not a label of ImageNet (0 to 999)")
    labels = {folder.name: int(folder.name) for folder in numbered}
    return _in_class_folders(root, labels, f"{len(labels)} folders named by labels")


def _in_class_folders(root: Path, labels: dict[str, int], layout: str) -> Listing:
    """List the images below the folders of `labels`; all other files are skipped."""
    samples: list[tuple[str, int]] = []
    folders, linked = own_folders(root)
    skipped = files_beside(root, OUTSIDE) + linked
    for folder in folders:
        images, others = images_below(folder, root)
        skipped += others
        if folder.name in labels:
            samples += [(path, labels[folder.name]) for path in images]
        else:
            skipped += [(path, OUTSIDE) for path in images]
    return _listing(samples, layout, skipped)


def _listing(
    samples: list[tuple[str, int]], layout: str, skipped: list[tuple[str, str]]
) -> Listing:
    images = [(path, reason) for path, reason in skipped if reason != NOT_AN_IMAGE]
    return Listing(imagenet_classes(), sorted(samples), layout, skipped=sorted(images))


def _wnids_of_files(root: Path, files: list[str]) -> dict[str, str]:
    """Return the wnid of each image by the stem of its file name, from the first list found."""
    for place in (root, root.parent, root.parent.parent.parent.parent):
        if (path := place / "LOC_val_solution.csv").is_file():
            with open(path, encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == 2]
            by_stem = {stem: text.split(" ")[0] for stem, text in rows[1:]}
        elif (path := place / "imagenet_2012_validation_synset_labels.txt").is_file():
            by_stem = _by_number(path, read_lines(path), files)
        elif kit := devkit.find_labels(place):
            path, by_stem = kit, _by_number(kit, devkit.image_wnids(kit), files)
        else:
            continue
        unlabelled = [name for name in files if by_stem.get(Path(name).stem) not in _labels()]
        if unlabelled:
            raise AbsError(
                f"{path}: no label for {unlabelled[0]} ({len(unlabelled)} of {len(files)} images)"
            )
        return by_stem
    raise LayoutNotFound(
        f"{root} has all images in one folder and no list of labels; put LOC_val_solution.csv, "
        "imagenet_2012_validation_synset_labels.txt or ILSVRC2012_devkit_t12 beside it, or sort "
        "the images by wnid"
    )


def _by_number(path: Path, wnids: list[str], files: list[str]) -> dict[str, str]:
    """Match line n of a list with the image whose file name ends in the number n."""
    by_stem = {}
    for stem in (Path(name).stem for name in files):
        digits = stem.rpartition("_")[2]
        number = int(digits) if digits.isdecimal() else 0
        if not 1 <= number <= len(wnids):
            raise AbsError(f"{path}: no line for {stem}; the list has {len(wnids)} lines")
        by_stem[stem] = wnids[number - 1]
    return by_stem


@cache
def _labels() -> dict[str, int]:
    """Return the label of each wnid."""
    return {one.key: label for label, one in enumerate(imagenet_classes())}
