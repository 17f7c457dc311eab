"""Class names, and the set of classes that compete.

Names and labels are joined by name, never by order. Two classes of one name may be told apart by
longer names from the reader; otherwise their scores tie and the first one wins.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.core.hashing import digest
from pipeline.datasets.labels import NUMBER
from pipeline.datasets.listing import (
    UNNAMED,
    WNID,
    Class,
    Listing,
    normal_form,
    read_names,
    refuse_spellings,
    require_utf8,
    with_spaces,
)


@dataclass(frozen=True)
class Classes:
    """All competing classes in label order."""

    names: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    """Names under which prompt files may list each class, the preferred one first."""
    present: tuple[bool, ...]
    """True for classes of the dataset, false for classes that only compete."""
    identifiers: tuple[str, ...] = ()
    """Names of the classes in the dataset's files, if `dataset.names` renamed them; else empty.
    Prompt files may list classes under these too, but texts never say them."""

    def identity(self) -> dict[str, Any]:
        """Return a digest of names in order, aliases, present classes and identifiers."""
        parts = [self.names, self.aliases, self.present]
        return {"classes": digest([*parts, self.identifiers] if self.identifiers else parts)}


def resolve_classes(
    listing: Listing, names: Path | None, vocabulary: Path | None, unique: bool
) -> tuple[Classes, list[int]]:
    """Return the competing classes, and the label of each class of the listing among them.

    names: a JSON object that renames the listing's classes, or a list of names in label order;
    where classes have only numbers, the list names the numbers from 0. vocabulary: a JSON list of
    all classes, which then determines the labels. unique: replace a name that several classes share
    by their longer names. AbsError for files that do not fit.
    """
    classes, labels = listing.classes, list(range(len(listing.classes)))
    if names:
        classes, labels = _renamed(classes, names)
    else:
        refuse_spellings(
            (one.key for one in classes),
            "the classes",
            "name them apart by dataset.names, an object, or use one spelling everywhere",
        )
    _refuse_nameless(classes)
    counts = Counter(one.name for one in classes)
    if vocabulary is not None:
        return _within(read_class_names(vocabulary), [one.name for one in classes], vocabulary)
    chosen = tuple(_unique_name(one, counts) if unique else one.name for one in classes)
    _refuse_equal(chosen if unique else ())
    tied = names is not None and not unique
    aliases = tuple((one.name,) if tied else _aliases(one, counts) for one in classes)
    present = tuple(listing.present is None or n in listing.present for n in range(len(classes)))
    identifiers = tuple(one.key for one in classes) if names else ()
    return Classes(chosen, aliases, present, identifiers), labels


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


def _renamed(classes: list[Class], path: Path) -> tuple[list[Class], list[int]]:
    """Return the renamed classes, and the label of each of the given classes among them."""
    names = _read_list(path, "class names")
    labels = list(range(len(classes)))
    if isinstance(names, dict):
        return _renamed_by_object(classes, names, path), labels
    listed = _names_of_list(names, path)
    nameless = [one for one in classes if not one.name]
    if not nameless:
        return _renamed_by_place(classes, listed, path), labels
    if len(nameless) < len(classes) or any(_number(one) is None for one in classes):
        raise AbsError(
            f"{path}: a list cannot name classes that are not all numbers, such as "
            f"{nameless[0].key!r} and {classes[-1].key!r}; give an object of names by class"
        )
    return _named_by_number(classes, listed, path)


def _renamed_by_object(classes: list[Class], names: dict[str, Any], path: Path) -> list[Class]:
    renamed = []
    for one in classes:
        number = _number(one)
        known = [one.key, *([] if number is None else [str(number)]), one.name]
        key = next((key for key in known if key in names), None)
        if key is None:
            called = one.name or one.key
            raise AbsError(
                f"{path}: no name for the class {called!r}; {did_you_mean(called, names)}"
            )
        name = _clean_name(names[key], path)
        renamed.append(Class(one.key, name, one.long_name or one.name))
    return renamed


def _names_of_list(names: Any, path: Path) -> list[str]:
    """Return the names of a list, each a text or a list of synonyms that begins with it."""
    firsts = [name[0] if isinstance(name, list) and name else name for name in names or ()]
    if not isinstance(names, list) or not firsts:
        raise AbsError(f"{path}: expected an object of class names by folder, or a list")
    return [_clean_name(name, path) for name in firsts]


def _renamed_by_place(classes: list[Class], names: list[str], path: Path) -> list[Class]:
    """Rename by position.

    AbsError if a listed name belongs to a class at another position, or if the classes are in the
    order of text where a list would have that of their numbers (class_1, class_10, class_2).
    """
    if len(names) != len(classes):
        raise AbsError(f"{path}: {len(names)} names for {len(classes)} classes")
    own: dict[str, list[int]] = {}
    for label, one in enumerate(classes):
        own.setdefault(_normalised(one.name), []).append(label)
    for label, name in enumerate(names):
        labels = own.get(_normalised(name), [label])
        if label not in labels:
            raise AbsError(
                f"{path}: name {label + 1} is {name!r}, but the dataset has that class at place "
                f"{labels[0] + 1}; give an object of names by folder"
            )
    keys = [one.key for one in classes]
    alike = all(_normalised(o.name) == _normalised(n) for o, n in zip(classes, names, strict=True))
    if keys == sorted(keys) != sorted(keys, key=_natural) and not alike:
        raise AbsError(
            f"{path}: a list may have another order than the classes, which are sorted as text "
            f"({', '.join(keys[:3])}, ...); give an object of names by class"
        )
    return [
        Class(one.key, name, one.long_name or one.name or f"{name} {one.key}")
        for one, name in zip(classes, names, strict=True)
    ]


def _named_by_number(
    classes: list[Class], names: list[str], path: Path
) -> tuple[list[Class], list[int]]:
    """Return one class per name; classes have the label of their number, whatever their order."""
    labels = [number for one in classes if (number := _number(one)) is not None]
    if wrong := [label for label in labels if not 0 <= label < len(names)]:
        raise AbsError(f"{path}: {len(names)} names, but the dataset has a class {wrong[0]}")
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        keys = [one.key for one, label in zip(classes, labels, strict=True) if label == twice[0]]
        raise AbsError(f"{path}: the classes {' and '.join(keys)} have the same number")
    return [Class(str(n), name, f"{name} {n}") for n, name in enumerate(names)], labels


def _number(one: Class) -> int | None:
    """Return the number that a class is known by; None if it has another identifier."""
    found = NUMBER.fullmatch(normal_form(one.key))
    return int(found[1]) if found else None


def _clean_name(name: Any, path: Path) -> str:
    """Return a class name in its normal form; AbsError if it cannot be one."""
    if not isinstance(name, str) or not with_spaces(name):
        raise AbsError(f"{path}: expected a class name, found {reprlib.repr(name)}")
    if UNNAMED.fullmatch(normal_form(name)):
        raise AbsError(f"{path}: {name!r} is an identifier, not a class name")
    return with_spaces(require_utf8(name))


def _natural(key: str) -> list[tuple[int, str]]:
    """Return a key by which numbers within names sort by value."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", key)
    return [(int(digits or 0), text) for digits, text in parts]


def _normalised(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _refuse_nameless(classes: list[Class]) -> None:
    nameless = [one.key for one in classes if not one.name.strip()]
    if nameless:
        raise ConfigError(
            f"dataset.names: classes have identifiers for names, such as {nameless[0]}, which are "
            f"unusable in texts; give a file of names, {_names_file(classes)}"
        )


def _names_file(classes: list[Class]) -> str:
    if all(_number(one) is not None for one in classes):
        return "a JSON list, or one name per line, in the order of the numbers"
    if not any(WNID.fullmatch(one.key) for one in classes):
        return "a JSON object of names by class"
    return (
        "a JSON object by identifier, or set dataset.reader=imagenet-part (abs init: --reader) for "
        "ImageNet's own names"
    )


def _read_list(path: Path, what: str) -> Any:
    """Read a JSON file, or the lines of a text file such as CLIP_benchmark's `classnames.txt`."""
    return read_names(path) if path.suffix.lower() == ".txt" else files.read_json(path, what)


def read_class_names(path: Path) -> list[str]:
    """Return the class names of a file: a JSON list, or one name per line of a `.txt`."""
    names = _read_list(path, "vocabulary")
    if not isinstance(names, list) or not names:
        raise AbsError(f"{path}: expected a list of class names")
    listed = [_clean_name(name, path) for name in names]
    refuse_spellings(listed, f"{path}: the names", "remove one")
    return listed


def _label(name: str, vocabulary: list[str], path: Path) -> int:
    if name not in vocabulary:
        raise AbsError(f"{path}: has no class {name!r}; {did_you_mean(name, vocabulary)}")
    return vocabulary.index(name)
