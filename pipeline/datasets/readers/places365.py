"""Reader of Places365: the validation images, in one folder with a list of labels, or by class.

A category is a path such as `/a/apartment_building/outdoor`. Published prompt files use its first
words (apartment building), so that 365 categories have 344 names.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import (
    Class,
    LayoutNotFound,
    Listing,
    images_below,
    read_pairs,
    subfolders,
    with_spaces,
)

CATEGORIES = "categories_places365.txt"
LABELS = "places365_val.txt"
IMAGES = ("val_large", "val_256", "val")
"""Folders of images in order of preference: papers use the first."""


def read_places365(root: Path) -> Listing:
    """Read a folder with both lists and the images, or with `val/<category>/`."""
    numbered = _categories(root)
    numbers = [number for _, number in numbered]
    if sorted(numbers) != sorted(map(str, range(len(numbers)))):
        raise AbsError(
            f"{root / CATEGORIES}: its numbers are not 0 to {len(numbers) - 1}, each once"
        )
    labels = {path: int(number) for path, number in numbered}
    classes = [_class(path) for path, _ in sorted(numbered, key=lambda pair: int(pair[1]))]
    existing = [name for name in IMAGES if (root / name).is_dir()]
    if not existing:
        raise LayoutNotFound(f"{root} has none of the folders {', '.join(IMAGES)}")
    folder = existing[0]
    unused = f" (not {', '.join(existing[1:])})" if existing[1:] else ""
    skipped: list[tuple[str, str]] = []
    if (root / LABELS).is_file():
        listed = read_pairs(root / LABELS)
        samples = [
            (f"{folder}/{name}", _label(name, number, len(labels))) for name, number in listed
        ]
    else:
        samples, skipped = _in_class_folders(root, root / folder, labels)
    return Listing(classes, sorted(samples), f"images in {folder}/{unused}", skipped=skipped)


def _categories(root: Path) -> list[tuple[str, str]]:
    """Return path and number of each category; without the list, from the folders of `val/`."""
    if (root / CATEGORIES).is_file() or not (root / "val").is_dir():
        return read_pairs(root / CATEGORIES)
    names = [folder.name for folder in subfolders(root / "val")]
    return [(f"/{name[0]}/{name.replace('-', '/')}", str(i)) for i, name in enumerate(names)]


def _class(path: str) -> Class:
    letter, *words = path.strip("/").split("/")
    if len(letter) != 1 or not words:
        raise AbsError(f"{CATEGORIES}: {path!r} is not a category such as /a/airfield")
    return Class(path, with_spaces(words[0]), with_spaces(" ".join(words)))


def _label(name: str, number: str, count: int) -> int:
    if not number.isdecimal() or int(number) >= count:
        raise AbsError(f"{LABELS}: {name} has the label {number!r}, not one from 0 to {count - 1}")
    return int(number)


def _in_class_folders(
    root: Path, place: Path, labels: dict[str, int]
) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    """Return the samples of `<category>/<image>` in `place`, and the files that are none.

    Slashes within a category are written as hyphens or underscores.
    """
    by_folder = {
        path.strip("/").partition("/")[2].replace("/", "-"): n for path, n in labels.items()
    }
    by_folder |= {name.replace("-", "_"): label for name, label in list(by_folder.items())}
    samples: list[tuple[str, int]] = []
    skipped: list[tuple[str, str]] = []
    for folder in subfolders(place):
        if folder.name not in by_folder:
            raise LayoutNotFound(f"{folder} is not a category of {CATEGORIES}")
        images, others = images_below(folder, root)
        samples += [(path, by_folder[folder.name]) for path in images]
        skipped += others
    return samples, skipped
