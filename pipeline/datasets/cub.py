"""CUB-200-2011: the test images of `train_test_split.txt`, joined by image id; labels from 1."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.listing import Class, Listing, pairs
from pipeline.errors import AbsError


def read_cub(root: Path) -> Listing:
    """The folder with `images.txt`, `image_class_labels.txt`, `classes.txt` and the split."""
    numbered = pairs(root / "classes.txt")
    place = {number: label for label, (number, _) in enumerate(numbered)}
    labels = dict(pairs(root / "image_class_labels.txt"))
    trained = dict(pairs(root / "train_test_split.txt"))
    samples = []
    for image, path in pairs(root / "images.txt"):
        if image not in trained or labels.get(image) not in place:
            raise AbsError(f"{root}: image {image} ({path}) has no split or no class")
        if trained[image] == "0":
            samples.append((f"images/{path}", place[labels[image]]))
    classes = [Class(folder, bird(folder)) for _, folder in numbered]
    return Listing(classes, sorted(samples), "test images of train_test_split.txt")


def bird(folder: str) -> str:
    """`001.Black_footed_Albatross` as prompt files write it: Black-footed Albatross.

    All words but the last are joined by hyphens where there are more than two.
    """
    *first, last = folder.rpartition(".")[2].split("_")
    return f"{'-'.join(first)} {last}" if first else last
