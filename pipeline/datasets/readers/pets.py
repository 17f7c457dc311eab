"""Reader of Oxford-IIIT Pets: the images of `annotations/test.txt`.

The label is the second column less 1. That order ignores case (Abyssinian, american bulldog, ...,
Bengal), so it is not the order of sorted names.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import Class, Listing, read_lines, with_spaces


def read_pets(root: Path) -> Listing:
    """Read a folder with `images/` and `annotations/test.txt`."""
    path = root / "annotations" / "test.txt"
    names: dict[int, str] = {}
    samples = []
    for number, line in enumerate(read_lines(path), 1):
        image, label = _columns(path, number, line)
        breed = image.rpartition("_")[0]
        if names.setdefault(label, breed) != breed:
            raise AbsError(f"{path}, line {number}: {breed} and {names[label]} have the same label")
        samples.append((f"images/{image}.jpg", label))
    labels = sorted(names)
    if labels != list(range(len(labels))):
        raise AbsError(f"{path}: labels are not 1 to {len(labels)}; the file may be incomplete")
    classes = [Class(names[label], with_spaces(names[label])) for label in labels]
    return Listing(classes, sorted(samples), "images of annotations/test.txt")


def _columns(path: Path, number: int, line: str) -> tuple[str, int]:
    image, *others = line.split()
    if not others or not others[0].isdecimal() or "_" not in image:
        raise AbsError(f"{path}, line {number}: expected an image and its class, found {line!r}")
    return image, int(others[0]) - 1
