"""Reader of Food-101: the images of `meta/test.json` or `meta/test.txt`."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.datasets.listing import Class, Listing, read_lines, with_spaces


def read_food101(root: Path) -> Listing:
    """Read a folder with `images/<class>/<id>.jpg` and `meta/`; classes in sorted order."""
    listed = _listed(root / "meta")
    wrong = [path for path in listed if path.count("/") != 1]
    if wrong or not listed:
        raise AbsError(f"{root / 'meta'}: expected <class>/<id> for each image, found {wrong[:1]}")
    names = sorted({path.partition("/")[0] for path in listed})
    labels = {name: label for label, name in enumerate(names)}
    samples = [(f"images/{path}.jpg", labels[path.partition("/")[0]]) for path in listed]
    return Listing(
        [Class(n, with_spaces(n)) for n in names], sorted(samples), "images of meta/test"
    )


def _listed(meta: Path) -> list[str]:
    if not (meta / "test.json").is_file():
        return read_lines(meta / "test.txt")
    content = files.read_json(meta / "test.json", "test images")
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise AbsError(f"{meta / 'test.json'}: expected lists of images by class")
    return [str(path) for paths in content.values() for path in paths]
