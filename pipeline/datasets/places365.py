"""Places365: the validation images, in one folder with a list of labels, or in class folders.

A category is a path such as `/a/apartment_building/outdoor`. Published prompts know it by the part
that says what it is (apartment building), so that 365 categories have 344 names.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.listing import Class, Listing, NotThere, folders, images_in, pairs, spaced
from pipeline.errors import AbsError

CATEGORIES = "categories_places365.txt"
LABELS = "places365_val.txt"
IMAGES = ("val_large", "val_256", "val")
"""Folders of images, in the order in which they are looked for: the first is what papers use."""


def read_places365(root: Path) -> Listing:
    """The folder with both lists and the images, or with `val/<category>/`."""
    numbered = _categories(root)
    numbers = [number for _, number in numbered]
    if sorted(numbers) != sorted(map(str, range(len(numbers)))):
        raise AbsError(
            f"{root / CATEGORIES}: its numbers are not 0 to {len(numbers) - 1}, each once"
        )
    place = {path: int(number) for path, number in numbered}
    classes = [_class(path) for path, _ in sorted(numbered, key=lambda pair: int(pair[1]))]
    there = [name for name in IMAGES if (root / name).is_dir()]
    if not there:
        raise NotThere(f"{root} has none of the folders {', '.join(IMAGES)}")
    folder = there[0]
    taken = f"{folder}/" + (f" (not {', '.join(there[1:])})" if there[1:] else "")
    if (root / LABELS).is_file():
        listed = pairs(root / LABELS)
        samples = [
            (f"{folder}/{name}", _label(name, number, len(place))) for name, number in listed
        ]
    else:
        samples = _foldered(root / folder, place)
    return Listing(classes, sorted(samples), f"images in {taken}")


def _categories(root: Path) -> list[tuple[str, str]]:
    """Path and number of each; from the folders of `val/` where the list is not there."""
    if (root / CATEGORIES).is_file() or not (root / "val").is_dir():
        return pairs(root / CATEGORIES)
    names = [folder.name for folder in folders(root / "val")]
    return [(f"/{name[0]}/{name.replace('-', '/')}", str(i)) for i, name in enumerate(names)]


def _class(path: str) -> Class:
    letter, *words = path.strip("/").split("/")
    if len(letter) != 1 or not words:
        raise AbsError(f"{CATEGORIES}: {path!r} is no category such as /a/airfield")
    return Class(path, spaced(words[0]), spaced(" ".join(words)))


def _label(name: str, number: str, count: int) -> int:
    if not number.isdecimal() or int(number) >= count:
        raise AbsError(f"{LABELS}: {name} has the label {number!r}, not one from 0 to {count - 1}")
    return int(number)


def _foldered(root: Path, place: dict[str, int]) -> list[tuple[str, int]]:
    """`<category>/<image>`, the category's slashes kept, or written as hyphens or underscores."""
    known = {path.strip("/").partition("/")[2].replace("/", "-"): n for path, n in place.items()}
    known |= {name.replace("-", "_"): label for name, label in list(known.items())}
    samples = []
    for folder in folders(root):
        if folder.name not in known:
            raise NotThere(f"{folder} is no category of {CATEGORIES}")
        label = known[folder.name]
        samples += [(f"{root.name}/{folder.name}/{name}", label) for name in images_in(folder)]
    return samples
