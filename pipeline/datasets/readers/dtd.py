"""Reader of DTD (Describable Textures): the images of `labels/test1.txt`, split 1 of 10."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import Class, Listing, read_lines, with_spaces


def read_dtd(root: Path) -> Listing:
    """Read a folder with `images/<class>/` and `labels/test1.txt`; classes in sorted order."""
    path = root / "labels" / "test1.txt"
    listed = read_lines(path)
    wrong = [line for line in listed if line.count("/") != 1]
    if wrong or not listed:
        raise AbsError(f"{path}: expected <class>/<image> on each line, found {wrong[:1]}")
    names = sorted({line.partition("/")[0] for line in listed})
    samples = [(f"images/{line}", names.index(line.partition("/")[0])) for line in listed]
    return Listing(
        [Class(n, with_spaces(n)) for n in names], sorted(samples), "split 1 of 10, test"
    )
