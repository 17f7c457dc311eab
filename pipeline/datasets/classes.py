"""Class names, and the set of classes that compete.

Names and labels are joined by name, never by order. Two classes of one name may be told apart by
longer names from the reader; otherwise their scores tie and the first one wins.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.core.hashing import digest
from pipeline.datasets.listing import Class, Listing, read_lines


@dataclass(frozen=True)
class Classes:
    """All competing classes in label order."""

    names: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    """Names under which prompt files may list each class, the preferred one first."""
    present: tuple[bool, ...]
    """True for classes of the dataset, false for classes that only compete."""
    identifiers: tuple[str, ...] = ()
    """What the dataset's files call each class, if `dataset.names` renamed them; else empty. Prompt
    files may list classes under these too, but texts never say them."""

    def identity(self) -> dict[str, Any]:
        """Return a digest of names in order, aliases, present classes and identifiers."""
        parts = [self.names, self.aliases, self.present]
        return {"classes": digest([*parts, self.identifiers] if self.identifiers else parts)}


def resolve_classes(
    listing: Listing, names: Path | None, vocabulary: Path | None, unique: bool
) -> tuple[Classes, list[int]]:
    """Return the competing classes, and the label of each class of the listing among them.

    names: a JSON object that renames the listing's classes, or a list of names in label order.
    vocabulary: a JSON list of all classes, which then determines the labels. unique: replace a name
    that several classes share by their longer names. AbsError for files that do not fit.
    """
    classes = _renamed(listing.classes, names) if names else listing.classes
    _refuse_nameless(classes)
    counts = Counter(one.name for one in classes)
    if vocabulary is not None:
        return _within(_read_names(vocabulary), [one.name for one in classes], vocabulary)
    chosen = tuple(_unique_name(one, counts) if unique else one.name for one in classes)
    _refuse_equal(chosen if unique else ())
    tied = names is not None and not unique
    aliases = tuple((one.name,) if tied else _aliases(one, counts) for one in classes)
    labels = range(len(classes))
    present = tuple(listing.present is None or n in listing.present for n in labels)
    identifiers = tuple(one.key for one in classes) if names else ()
    return Classes(chosen, aliases, present, identifiers), list(labels)


def refuse_single_class(classes: Classes, where: str) -> None:
    """Raise AbsError if only one class competes, so that every prediction is right."""
    if len(classes.names) < 2:
        raise AbsError(
            f"{where}: one class alone, {classes.names[0]!r}, so that every prediction is right; "
            "name more classes (folders, labels, dataset.vocabulary), or set "
            "dataset.single_class=true"
        )


def _within(vocabulary: list[str], names: list[str], path: Path) -> tuple[Classes, list[int]]:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise AbsError(f"{path}: two classes of the dataset are called {twice[0]!r}; rename one")
    labels = [_label(name, vocabulary, path) for name in names]
    present = tuple(label in set(labels) for label in range(len(vocabulary)))
    return Classes(tuple(vocabulary), tuple((name,) for name in vocabulary), present), labels


def _aliases(one: Class, counts: Counter[str]) -> tuple[str, ...]:
    """Return both names, the longer one first where several classes share the short one."""
    both = (one.long_name or one.name, one.name)
    return tuple(dict.fromkeys(both if counts[one.name] > 1 else reversed(both)))


def _unique_name(one: Class, counts: Counter[str]) -> str:
    return (one.long_name or one.name) if counts[one.name] > 1 else one.name


def _refuse_equal(names: tuple[str, ...]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AbsError(
            f"dataset.duplicates: two classes are still called {twice[0]!r}; rename a folder or "
            f"set it to kept"
        )


def _renamed(classes: list[Class], path: Path) -> list[Class]:
    names = _read_list(path, "class names")
    if isinstance(names, list):
        return _renamed_by_list(classes, names, path)
    if not isinstance(names, dict) or not all(map(_is_name, names.values())):
        raise AbsError(f"{path}: expected an object of class names by folder, or a list")
    for one in classes:
        if one.key not in names and one.name not in names:
            raise AbsError(
                f"{path}: no name for the class {one.name!r}; {did_you_mean(one.name, names)}"
            )
    renamed = [names[one.key] if one.key in names else names[one.name] for one in classes]
    return [
        Class(one.key, name, one.long_name or one.name)
        for one, name in zip(classes, renamed, strict=True)
    ]


def _renamed_by_list(classes: list[Class], names: list[Any], path: Path) -> list[Class]:
    """Rename by position; AbsError if a listed name belongs to a class at another position."""
    firsts = [name[0] if isinstance(name, list) and name else name for name in names]
    if not firsts or not all(map(_is_name, firsts)):
        raise AbsError(f"{path}: expected a list of class names")
    if all(one.key.isdecimal() for one in classes):
        return _renamed_by_number(classes, firsts, path)
    if len(firsts) != len(classes):
        raise AbsError(f"{path}: {len(firsts)} names for {len(classes)} classes")
    own: dict[str, list[int]] = {}
    for label, one in enumerate(classes):
        own.setdefault(_normalised(one.name), []).append(label)
    for label, name in enumerate(firsts):
        labels = own.get(_normalised(name), [label])
        if label not in labels:
            raise AbsError(
                f"{path}: name {label + 1} is {name!r}, but the dataset has that class at place "
                f"{labels[0] + 1}; give an object of names by folder"
            )
    return [
        Class(one.key, name, one.long_name or one.name or f"{name} {one.key}")
        for one, name in zip(classes, firsts, strict=True)
    ]


def _renamed_by_number(classes: list[Class], names: list[str], path: Path) -> list[Class]:
    """Name classes whose keys are numbers from 0 by these numbers, in any order."""
    highest = max(int(one.key) for one in classes)
    if highest >= len(names):
        raise AbsError(f"{path}: {len(names)} names, but the dataset has a class {highest}")
    in_order = [int(one.key) for one in classes] == list(range(len(classes)))
    if in_order and not any(one.name for one in classes):  # the last classes may have no image
        return [Class(str(label), name, f"{name} {label}") for label, name in enumerate(names)]
    own = [names[int(one.key)] for one in classes]
    return [
        Class(one.key, name, f"{name} {one.key}") for one, name in zip(classes, own, strict=True)
    ]


def _normalised(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _refuse_nameless(classes: list[Class]) -> None:
    nameless = [one.key for one in classes if not one.name.strip()]
    if nameless:
        raise ConfigError(
            f"dataset.names: classes have identifiers for names, such as {nameless[0]}, which are "
            f"unusable in texts; give a file of their names, {_names_file(nameless[0])}"
        )


def _names_file(key: str) -> str:
    if key.isdecimal():
        return "a JSON list, or one name per line, in the order of the numbers"
    return (
        "a JSON object by identifier, or set dataset.reader=imagenet-part (abs init: --reader) for "
        "ImageNet's own names"
    )


def _read_list(path: Path, what: str) -> Any:
    """Read a JSON file, or the lines of a text file such as CLIP_benchmark's `classnames.txt`."""
    return read_lines(path) if path.suffix.lower() == ".txt" else files.read_json(path, what)


def _read_names(path: Path) -> list[str]:
    names = _read_list(path, "vocabulary")
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        raise AbsError(f"{path}: expected a list of class names")
    return [str(name) for name in names]


def _label(name: str, vocabulary: list[str], path: Path) -> int:
    if name not in vocabulary:
        raise AbsError(f"{path}: has no class {name!r}; {did_you_mean(name, vocabulary)}")
    return vocabulary.index(name)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())
