"""Readers of ImageNet's validation set and the sets that share its classes: V2, R, A and Sketch.

Labels are positions in the sorted list of 1000 wnids, independent of the order of folders. R and A
have 200 of the classes.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import LayoutNotFound, Listing, images_in, read_lines, subfolders
from pipeline.datasets.open_clip_lists import imagenet_classes
from pipeline.datasets.readers import devkit

CLASSES = 1000


def read_imagenet(root: Path) -> Listing:
    """Read the validation set: `<wnid>/<image>`, or all images in one folder with a list of labels.

    The list is `LOC_val_solution.csv`, `imagenet_2012_validation_synset_labels.txt` or the devkit's
    ground truth, beside the folder or in it.
    """
    if any(folder.name in _labels() for folder in subfolders(root)):
        return read_wnids(root)
    files = list(images_in(root))
    if not files:
        raise LayoutNotFound(f"{root} has neither folders named by wnids nor images")
    wnids = _wnids_of_files(root, files)
    samples = [(name, _labels()[wnids[Path(name).stem]]) for name in files]
    return Listing(imagenet_classes(), samples, "all images in one folder")


def read_wnids(root: Path) -> Listing:
    """Read `<wnid>/<image>`, with folders of all classes or some; all 1000 classes compete."""
    by_wnid = [folder for folder in subfolders(root) if folder.name in _labels()]
    if not by_wnid:
        raise LayoutNotFound(
            f"{root} has no folders named by wnids of ImageNet (such as n01440764)"
        )
    samples = [
        (f"{folder.name}/{name}", _labels()[folder.name])
        for folder in by_wnid
        for name in images_in(folder)
    ]
    return Listing(imagenet_classes(), samples, f"{len(by_wnid)} folders named by wnids")


def read_imagenet_part(root: Path) -> Listing:
    """Read ImageNet-A or R: only classes that have a folder are present in the dataset.

    `scores.classes` decides whether all 1000 compete, or only these.
    """
    whole = read_wnids(root)
    present = frozenset(label for _, label in whole.samples)
    return replace(whole, present=present)


def read_imagenet_v2(root: Path) -> Listing:
    """Read ImageNet-V2: `<label>/<image>` with labels 0 to 999, or `<wnid>/<image>`."""
    numbered = [folder for folder in subfolders(root) if folder.name.isdecimal()]
    if not numbered:
        return read_wnids(root)
    wrong = [folder.name for folder in numbered if int(folder.name) >= CLASSES]
    if wrong:
        raise AbsError(f"{root}: folder {wrong[0]} is not a label of ImageNet (0 to 999)")
    samples = [
        (f"{folder.name}/{name}", int(folder.name))
        for folder in numbered
        for name in images_in(folder)
    ]
    return Listing(imagenet_classes(), sorted(samples), f"{len(numbered)} folders named by labels")


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
