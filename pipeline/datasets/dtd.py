"""DTD, the Describable Textures: the images of `labels/test1.txt`, the first of its ten splits."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.listing import Class, Listing, lines, spaced
from pipeline.errors import AbsError


def read_dtd(root: Path) -> Listing:
    """The folder with `images/<class>/` and `labels/test1.txt`; classes in sorted order."""
    path = root / "labels" / "test1.txt"
    found = lines(path)
    wrong = [line for line in found if line.count("/") != 1]
    if wrong or not found:
        raise AbsError(f"{path}: expected <class>/<image> on each line, found {wrong[:1]}")
    names = sorted({line.partition("/")[0] for line in found})
    samples = [(f"images/{line}", names.index(line.partition("/")[0])) for line in found]
    return Listing([Class(n, spaced(n)) for n in names], sorted(samples), "split 1 of 10, test")
