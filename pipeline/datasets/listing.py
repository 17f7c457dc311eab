"""Classes and samples as a reader returns them, and helpers that readers share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import regex

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.contents import Contents
from pipeline.datasets.formats import holds_image, is_decoded, is_foreign

NOT_AN_IMAGE = "not an image"
"""Reason for files of other kinds; they do not count against `index.max_skipped`."""

FOREIGN_FORMAT = "an image of a format that Pillow does not decode"
"""Reason for photos and drawings whose suffix is that of another format."""

LINKED = "a link to a folder that the dataset has already"
"""Reason for links to folders that are not followed."""

WNID = re.compile(r"n[0-9]{8}")
"""Identifier of a class in WordNet, as ImageNet names its folders."""
UNNAMED = re.compile(rf"{WNID.pattern}|[0-9]+(\.0*)?")
"""Identifiers that are no class names: WordNet ids and whole numbers."""
CODE = re.compile(r"[\[\]{}\"'#].*|.*,|\w+ *=.*|[0-9]+ *[:.;,].*")
"""Lines of JSON or code, and lines that begin with a number, in place of names."""
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks of the direction of writing."""
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u2060\u00ad" + DIRECTIONS))
"""Characters without width that copying leaves in names: byte order marks, breaks, hyphens, marks
of direction."""
IGNORED = regex.compile(r"\p{Default_Ignorable_Code_Point}")
"""Characters that Unicode calls invisible, joiners among them, which some scripts need."""


@dataclass(frozen=True)
class Class:
    """A class as a reader returns it."""

    key: str
    """Identifier in the dataset's files, such as a folder or a wnid. Unique."""
    name: str
    """Name for texts, and the name under which prompt files usually list the class."""
    long_name: str = ""
    """Longer name that tells classes of equal `name` apart; empty: `name` serves."""


@dataclass(frozen=True)
class Listing:
    """Classes and images that a reader found in a dataset's folder."""

    classes: list[Class]
    """Classes in label order."""
    samples: Sequence[tuple[str, int]]
    """(path below the root, label) of each image, sorted by path; `Samples` where they are many."""
    layout: str = ""
    """Layout that was found, in words, for `abs doctor`."""
    present: frozenset[int] | None = None
    """Labels that belong to the dataset where it is a subset of another (ImageNet-A, R); None:
    all."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(file, reason) of image files that are not listed as samples. Reasons are part of the
    dataset's digest, and with it of keys."""
    contents: Contents | None = None
    """Access to the images' bytes; None: files below the root."""


@dataclass(frozen=True)
class Columns:
    """Choice of split and columns of a table; None: the only one, or the usual name."""

    split: str | None = None
    image: str | None = None
    label: str | None = None


class LayoutNotFound(MissingInput):
    """The folder does not have the reader's layout; the next location is tried."""


def read_lines(path: Path) -> list[str]:
    """Return the non-blank lines of a UTF-8 file, stripped; LayoutNotFound if it is missing."""
    return [line for line in _stripped_lines(path) if line]


def read_names(path: Path) -> list[str]:
    """Return the class names of a UTF-8 file, one per line; AbsError for a blank line among them.

    Lines are numbered like the classes, so a blank line that is dropped would shift the rest.
    """
    names = _stripped_lines(path)
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise AbsError(f"{path}, line {names.index('') + 1}: expected a class name, found none")
    if code := next(filter(CODE.fullmatch, names), None):
        raise AbsError(f"{path}: expected one class name per line, found {code!r}")
    numbers = [int(line.split()[0]) for line in names if re.match(r"[0-9]{1,9}\s", line)]
    if len(names) > 1 and numbers in (list(range(len(names))), list(range(1, len(names) + 1))):
        raise AbsError(f"{path}: expected class names without numbers, found {names[0]!r}")
    return names


def _stripped_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LayoutNotFound(f"{path} not found") from None
    except UnicodeDecodeError:
        raise AbsError(f"{path} is not UTF-8") from None
    return [line.strip() for line in text.split("\n")]


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return each line split at its last space, as in `images.txt` of CUB."""
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        first, _, second = line.rpartition(" ")
        if not first:
            raise AbsError(f"{path}, line {number}: expected two words, found {line!r}")
        rows.append((first.strip(), second))
    return rows


def normal_form(text: str) -> str:
    """Return a name in NFC, stripped, without invisible characters, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text.translate(INVISIBLE)).split())


def with_spaces(name: str) -> str:
    """Replace underscores with spaces, in the normal form."""
    return normal_form(name.replace("_", " "))


def spelling(name: str) -> str:
    """Return what spellings of one name have in common, whatever their case, space or form, and
    without invisible characters."""
    return unicodedata.normalize("NFC", with_spaces(IGNORED.sub("", name)).lower())


def refuse_spellings(names: Iterable[str], where: str, advice: str) -> None:
    """Raise AbsError, from `where` to `advice`, if two different texts spell one name."""
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (other := first.setdefault(spelling(name), name)) != name:
            raise AbsError(
                f"{where} {told_apart(other, name)} differ only in space, underscores, case, "
                f"invisible characters or Unicode form; {advice}"
            )


def told_apart(one: str, other: str) -> str:
    """Return `'one' and 'other'`, in ASCII with escapes if they would look the same in print."""
    seen = {unicodedata.normalize("NFC", IGNORED.sub("", name)) for name in (one, other)}
    shown = ascii if len(seen) == 1 else repr
    return f"{shown(one)} and {shown(other)}"


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is passed over: a leading dot, or `__MACOSX` of macOS."""
    return name.startswith(".") or name == "__MACOSX"


def subfolders(root: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted by name; LayoutNotFound if it is not one."""
    if not root.is_dir():
        raise LayoutNotFound(f"{root} is not a folder")
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))


def is_link_within(folder: Path, root: Path) -> bool:
    """Return whether a folder is a link to one that lies below `root`, or that `root` lies in.

    Such a link would give an image a second label, or lead in a circle.
    """
    if not folder.is_symlink():
        return False
    target, own = folder.resolve(), root.resolve()
    return target.is_relative_to(own) or own.is_relative_to(target)


def own_folders(root: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the sub-folders of a dataset that are not links within it, and (name, reason) of
    those that are; LayoutNotFound if `root` is not a folder."""
    folders = subfolders(root)
    linked = [folder for folder in folders if is_link_within(folder, root)]
    skipped = [(require_utf8(folder.name), LINKED) for folder in linked]
    return [folder for folder in folders if folder not in linked], skipped


def files_below(folder: Path, root: Path) -> Iterator[Path]:
    """Yield all visible files below a folder of the dataset at `root`, at any depth, sorted.

    Links to folders outside the dataset are followed, as torchvision's ImageFolder does, each
    folder once. Other links to folders, and broken ones, are yielded like files.
    """
    seen = {folder.resolve()}

    def walk(inner: Path) -> Iterator[Path]:
        for path in sorted(inner.iterdir()):
            if is_hidden(path.name):
                continue
            if not path.is_dir() or is_link_within(path, root) or (real := path.resolve()) in seen:
                yield path
            else:
                seen.add(real)
                yield from walk(path)

    yield from walk(folder)


def reason_to_skip(file: Path) -> str | None:
    """Return why a file is not a sample, or None for an image.

    A suffix of a format that Pillow decodes counts as an image, which the index decodes later; any
    other file is opened to see.
    """
    if file.is_file():
        if is_decoded(file.name) or holds_image(file, file.name):
            return None
        return FOREIGN_FORMAT if is_foreign(file.name) else NOT_AN_IMAGE
    if file.is_dir():
        return LINKED
    return NOT_AN_IMAGE if file.exists() else "a link that leads nowhere"


def images_below(folder: Path, root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the images below a folder of the dataset at `root`, and (file, reason) of all others.

    Paths are relative to `root`.
    """
    images: list[str] = []
    skipped: list[tuple[str, str]] = []
    for file in files_below(folder, root):
        path = require_utf8(file.relative_to(root).as_posix())
        if reason := reason_to_skip(file):
            skipped.append((path, reason))
        else:
            images.append(path)
    return images, skipped


def has_images(folder: Path, root: Path) -> bool:
    """Return whether any image lies below a folder of the dataset at `root`."""
    return any(reason_to_skip(file) is None for file in files_below(folder, root))


def files_beside(root: Path, reason: str) -> list[tuple[str, str]]:
    """Return (file, reason) of the visible files that lie directly in a folder, sorted by name.

    `reason` is that of images; other files have their own.
    """
    return [
        (require_utf8(file.name), reason_to_skip(file) or reason)
        for file in sorted(root.iterdir())
        if not file.is_dir() and not is_hidden(file.name)
    ]


PART = re.compile(r"(.*?)[-_.]?(\d+)[-_.]of[-_.](\d+)(-[0-9a-f]{16})?")
"""Name of a file that is one of several: the set, its number, how many, and the hash of the hub."""


def refuse_missing_parts(files: Iterable[Path]) -> None:
    """Raise MissingInput that names a file which is missing among `test-00000-of-00002` and so on.

    Numbers begin at 0 or 1. Files with other names are passed over.
    """
    parts: dict[tuple[Path, str, int], dict[int, Path]] = {}
    for file in files:
        if found := PART.fullmatch(file.stem):
            whole, number, count = found[1], int(found[2]), int(found[3])
            parts.setdefault((file.parent, whole, count), {})[number] = file
    for (folder, _, count), there in parts.items():
        first = int(0 not in there and count in there)
        missing = next((n for n in range(first, first + count) if n not in there), None)
        if missing is not None:
            example = next(iter(there.values())).name
            raise MissingInput(
                f"{folder}: part {missing} of {count} is not there beside {example}; add it, set "
                "dataset.root to the folder of all parts, or rename those that are meant to be all"
            )


def require_utf8(name: str) -> str:
    """Return `name`; AbsError if it cannot be stored as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AbsError(f"file name {name!r} is not UTF-8; rename it") from None
    return name
