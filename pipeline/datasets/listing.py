"""What a reader finds in a dataset's folder, and the small things that readers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.contents import Contents
from pipeline.errors import AbsError, MissingInput

SUFFIXES = {
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip


@dataclass(frozen=True)
class Class:
    """A class as a reader knows it."""

    key: str
    """What the dataset's files call it: a folder, a wnid. Unique."""
    name: str
    """What people call it, and prompt files know it by."""
    apart: str = ""
    """A longer name, for where two classes share one; empty: the key."""


@dataclass(frozen=True)
class Listing:
    """Classes in label order, and (path below the root, label) of each image in order of path."""

    classes: list[Class]
    samples: list[tuple[str, int]]
    layout: str = ""
    """Which of several trees was found, in words."""
    present: frozenset[int] | None = None
    """Labels that the dataset has by its protocol, where it is a part of another; None: all."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files that look like images and are not listed, and why."""
    contents: Contents | None = None
    """Where the images' bytes are, if not in files of their own."""


MANY = 1_000_000
"""Numbers from here on are no labels."""


@dataclass(frozen=True)
class Columns:
    """What of a table to read; None: what there is only one of, or what it is usually called."""

    split: str | None = None
    image: str | None = None
    label: str | None = None


class NotThere(MissingInput):
    """The folder has not the layout that a reader looks for; another place may have it."""


def of_labels(
    labels: Iterable[int | str], names: Sequence[str] | None, where: str
) -> tuple[list[Class], dict[int | str, int]]:
    """Classes, and the place of each label among them. Labels are names, or numbers from 0.

    names: of the numbers; without them classes have none until `dataset.names` gives them.
    AbsError for names and numbers mixed, and for a number beyond the names.
    """
    found = set(labels)
    numbers = [label for label in found if isinstance(label, int)]
    texts = sorted(label for label in found if isinstance(label, str))
    if numbers and texts:
        raise AbsError(f"{where}: labels are numbers and names, such as {numbers[0]}, {texts[0]!r}")
    if texts:
        return [Class(text, text) for text in texts], {text: n for n, text in enumerate(texts)}
    count = min(max(numbers) + 1, MANY) if names is None else len(names)
    if wrong := [number for number in numbers if not 0 <= number < count]:
        raise AbsError(f"{where}: label {wrong[0]} is none of {count} classes")
    named = names or [""] * count
    classes = [Class(str(number), name) for number, name in enumerate(named)]
    return classes, {number: number for number in range(count)}


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; NotThere if there is no such file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotThere(f"{path} not found") from None
    except UnicodeDecodeError:
        raise AbsError(f"{path} is not UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def pairs(path: Path) -> list[tuple[str, str]]:
    """Lines of two words, of which the last has no space: `images.txt` of CUB and the like."""
    found = []
    for number, line in enumerate(lines(path), 1):
        first, _, second = line.rpartition(" ")
        if not first:
            raise AbsError(f"{path}, line {number}: expected two words, found {line!r}")
        found.append((first.strip(), second))
    return found


def spaced(name: str) -> str:
    """Underscores read as spaces."""
    return name.replace("_", " ")


def folders(root: Path) -> list[Path]:
    """Visible folders of a folder, sorted by name; NotThere if it is none."""
    if not root.is_dir():
        raise NotThere(f"{root} is not a folder")
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def images_in(folder: Path) -> Iterable[str]:
    """Names of the visible image files in a folder, sorted."""
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith("."):
            yield as_text(file.name)


def dead_links(folder: Path) -> Iterable[str]:
    """Names of links in a folder that lead nowhere or in a circle, sorted."""
    for file in sorted(folder.iterdir()):
        if file.is_symlink() and not file.exists():
            yield as_text(file.name)


def as_text(name: str) -> str:
    """`name`, if it can be stored as UTF-8; AbsError otherwise."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AbsError(f"file name {name!r} is not UTF-8; rename it") from None
    return name
