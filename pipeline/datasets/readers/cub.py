"""Reader of CUB-200-2011: the test images of `train_test_split.txt`, joined with labels by id."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import Class, Listing, read_pairs


def read_cub(root: Path) -> Listing:
    """Read a folder with `images.txt`, `image_class_labels.txt`, `classes.txt` and the split.

    Numbers of classes start at 1 in the files; labels are positions in `classes.txt`.
    """
    numbered = read_pairs(root / "classes.txt")
    place = {number: label for label, (number, _) in enumerate(numbered)}
    labels = dict(read_pairs(root / "image_class_labels.txt"))
    split = dict(read_pairs(root / "train_test_split.txt"))
    samples = []
    for image, path in read_pairs(root / "images.txt"):
        if image not in split or labels.get(image) not in place:
            raise AbsError(f"{root}: image {image} ({path}) has no split or no class")
        if split[image] == "0":
            samples.append((f"images/{path}", place[labels[image]]))
    classes = [Class(folder, _class_name(folder)) for _, folder in numbered]
    return Listing(classes, sorted(samples), "test images of train_test_split.txt")


def _class_name(folder: str) -> str:
    """Return a folder's class name as prompt files write it.

    `001.Black_footed_Albatross` becomes Black-footed Albatross: all words but the last are joined
    by hyphens.
    """
    *first, last = folder.rpartition(".")[2].split("_")
    return f"{'-'.join(first)} {last}" if first else last
