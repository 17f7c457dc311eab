"""Food-101: the images of `meta/test.json` or `meta/test.txt`; classes in sorted order."""

from __future__ import annotations

from pathlib import Path

from pipeline import files
from pipeline.datasets.listing import Class, Listing, lines, spaced
from pipeline.errors import AbsError


def read_food101(root: Path) -> Listing:
    """The folder with `images/<class>/<id>.jpg` and `meta/`."""
    found = _listed(root / "meta")
    wrong = [path for path in found if path.count("/") != 1]
    if wrong or not found:
        raise AbsError(f"{root / 'meta'}: expected <class>/<id> for each image, found {wrong[:1]}")
    names = sorted({path.partition("/")[0] for path in found})
    place = {name: label for label, name in enumerate(names)}
    samples = [(f"images/{path}.jpg", place[path.partition("/")[0]]) for path in found]
    return Listing([Class(n, spaced(n)) for n in names], sorted(samples), "images of meta/test")


def _listed(meta: Path) -> list[str]:
    if not (meta / "test.json").is_file():
        return lines(meta / "test.txt")
    content = files.read_json(meta / "test.json", "test images")
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise AbsError(f"{meta / 'test.json'}: expected lists of images by class")
    return [str(path) for of_class in content.values() for path in of_class]
