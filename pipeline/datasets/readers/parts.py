"""Folders that are parts of a dataset, not classes: splits, kinds of files, variants, copies.

Told by their names and sub-folders alone, before any image is counted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.formats import is_decoded
from pipeline.datasets.listing import is_hidden

SPLITS = frozenset({
    "train", "trainset", "training", "trn", "val", "valid", "validate", "validation", "valset",
    "dev", "test", "tests", "testset", "testing", "tst", "eval", "evaluation", "pred",
    "predict", "prediction", "fold", "split", "holdout",
})  # fmt: skip
"""Words in the names of splits."""

KINDS = frozenset({
    "image", "images", "img", "imgs", "jpegimages", "photo", "photos", "picture", "pictures",
    "mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "bbox",
    "bboxes", "box", "boxes", "segmentation", "segmentations", "groundtruth", "gt", "xml",
    "xmls", "json", "csv", "txt", "meta", "metadata", "data", "dataset",
})  # fmt: skip
"""Words in the names of folders for one kind of a dataset's files."""


def refuse_parts(root: Path, folders: list[Path]) -> None:
    """Raise AbsError if folders in `root` look like splits, kinds of files, variants or copies."""
    words = {folder: _words(folder.name) for folder in folders}
    names = splits_among([folder.name for folder in folders])
    if splits := [folder for folder in folders if folder.name in names]:
        _refuse(
            root, splits, "look like splits", max(splits, key=lambda one: _preference(words[one]))
        )
    if all(words[folder] and words[folder] <= KINDS for folder in folders):
        _refuse(root, folders, "look like kinds of files", folders[0])
    inner = {folder: _subfolder_names(folder) for folder in folders}
    if copies := _copies(inner):
        _refuse(root, copies, "hold folders called like those beside them", copies[0])
    if variants := _variants(inner):
        _refuse(root, variants, "have the same sub-folders and look like variants", variants[0])


def splits_among(names: Sequence[str]) -> list[str]:
    """Return those of the names of folders that look like splits; none if all seem classes."""
    words = {name: _words(name) for name in names}
    splits = [name for name in names if words[name] & SPLITS]
    return splits if _are_splits(splits, words) else []


def _words(name: str) -> frozenset[str]:
    """Return the words of a name in lower case: `trainA` and `Train2017` have `train`."""
    words = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", name)
    return frozenset(word.lower() for word in words if len(word) > 1)


def _are_splits(splits: list[str], words: dict[str, frozenset[str]]) -> bool:
    """Return whether the names with a word of splits are most of all, and differ as splits do.

    One is this word alone (`train`), or all others are alike (`seg_train`, `seg_test`; `fold_1`,
    `fold_2`). Classes differ in the other words: `bullet train` and `test tube`.
    """
    if not splits or len(splits) < min(2, len(words)) or 2 * len(splits) < len(words):
        return False
    rests = {words[name] - SPLITS for name in splits}
    return len(rests) == 1 or frozenset() in rests


def _preference(words: frozenset[str]) -> int:
    """Return how much a split is meant for evaluation: test before validation before training."""
    if any(word.startswith(("test", "tst")) for word in words):
        return 2
    return not any(word.startswith(("train", "trn")) for word in words)


def _copies(inner: dict[Path, list[str]]) -> list[Path]:
    """Return folders of which most sub-folders are called like folders beside them.

    Archives that hold all images twice, once in a folder of their own, unpack to such folders.
    """
    beside = {folder.name for folder in inner}
    return [folder for folder, names in inner.items() if _mostly(beside, names)]


def _variants(inner: dict[Path, list[str]]) -> list[Path]:
    """Return folders of which most sub-folders are also in others."""
    counts = Counter(name for names in inner.values() for name in names)
    shared = {name for name, count in counts.items() if count > 1}
    found = [folder for folder, names in inner.items() if _mostly(shared, names)]
    return found if len(found) > 1 else []


def _mostly(shared: set[str], names: list[str]) -> bool:
    """Return whether two or more of the names, and most of them, are shared ones."""
    count = len(shared.intersection(names))
    return count >= 2 and 2 * count > len(names)


def _subfolder_names(folder: Path) -> list[str]:
    """Return the names of the visible sub-folders; none if images lie beside them."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    names = {entry.name for entry in visible if os.path.isdir(entry.path)}  # False for a circle
    beside = any(is_decoded(entry.name) for entry in visible if entry.name not in names)
    return [] if beside else sorted(names)


def _refuse(root: Path, parts: list[Path], what: str, example: Path) -> None:
    names = ", ".join(folder.name for folder in parts[:5]) + (", ..." if parts[5:] else "")
    raise AbsError(
        f"{root}: the folders {names} {what}, not classes; set dataset.root to one of them, such "
        f"as {example}, or dataset.folders_are_classes=true (abs init: --folders-are-classes)"
    )
