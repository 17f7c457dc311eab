"""What classes are called, and which of them compete.

Names and labels are joined by name, never by order. Two classes of one name may be kept apart by
what the reader calls them; where they are not, scores tie and the first one wins.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.datasets.listing import Class, Listing
from pipeline.errors import AbsError, ConfigError, closest
from pipeline.identity import digest


@dataclass(frozen=True)
class Classes:
    """All classes in label order."""

    names: tuple[str, ...]
    known: tuple[tuple[str, ...], ...]
    """What files of texts may know each class by, the best first."""
    present: tuple[bool, ...]
    """Whether the dataset has the class; others only compete."""

    def identity(self) -> dict[str, Any]:
        """Digest of the names in their order, and of which are present."""
        return {"classes": digest([self.names, self.known, self.present])}


def settle(
    listing: Listing, names: Path | None, vocabulary: Path | None, unique: bool
) -> tuple[Classes, list[int]]:
    """The classes, and the label of each that the reader found.

    names: a JSON object that renames what was found, or a list of names by label. vocabulary: a
    JSON list of all classes, which then decides the labels. unique: whether classes of one name go
    by their longer names. AbsError for files that do not fit.
    """
    found = _renamed(listing.classes, names) if names else listing.classes
    _refuse_nameless(found)
    counts = Counter(one.name for one in found)
    if vocabulary is not None:
        return _within(_list(vocabulary), [one.name for one in found], vocabulary)
    chosen = tuple(_apart(one, counts) if unique else one.name for one in found)
    _refuse_equal(chosen if unique else ())
    tied = names is not None and not unique
    known = tuple((one.name,) if tied else _known(one, counts) for one in found)
    present = tuple(listing.present is None or n in listing.present for n in range(len(found)))
    return Classes(chosen, known, present), list(range(len(found)))


def _within(all_names: list[str], names: list[str], path: Path) -> tuple[Classes, list[int]]:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise AbsError(f"{path}: two classes of the dataset are called {twice[0]!r}; rename one")
    place = [_place(name, all_names, path) for name in names]
    present = tuple(label in set(place) for label in range(len(all_names)))
    return Classes(tuple(all_names), tuple((name,) for name in all_names), present), place


def _known(one: Class, counts: Counter[str]) -> tuple[str, ...]:
    """The longer name first where the short one stands for several classes."""
    both = (one.apart or one.name, one.name)
    return tuple(dict.fromkeys(both if counts[one.name] > 1 else reversed(both)))


def _apart(one: Class, counts: Counter[str]) -> str:
    return (one.apart or one.name) if counts[one.name] > 1 else one.name


def _refuse_equal(names: tuple[str, ...]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AbsError(
            f"dataset.duplicates: two classes are still called {twice[0]!r}; rename a folder or "
            f"set it to kept"
        )


def _renamed(found: list[Class], path: Path) -> list[Class]:
    names = files.read_json(path, "class names")
    if isinstance(names, list):
        return _listed(found, names, path)
    if not isinstance(names, dict) or not all(map(_is_name, names.values())):
        raise AbsError(f"{path}: expected an object of class names by folder, or a list")
    for one in found:
        if one.key not in names and one.name not in names:
            raise AbsError(
                f"{path}: no name for the class {one.name!r}; {closest(one.name, names)}"
            )
    renamed = [names[one.key] if one.key in names else names[one.name] for one in found]
    return [
        Class(one.key, name, one.apart or one.name)
        for one, name in zip(found, renamed, strict=True)
    ]


def _listed(found: list[Class], names: list[Any], path: Path) -> list[Class]:
    """A list has no names to join by, so it must fit wherever the files know names too."""
    firsts = [name[0] if isinstance(name, list) and name else name for name in names]
    if not firsts or not all(map(_is_name, firsts)):
        raise AbsError(f"{path}: expected a list of class names")
    if all(one.key.isdecimal() for one in found):
        return _numbered(found, firsts, path)
    if len(firsts) != len(found):
        raise AbsError(f"{path}: {len(firsts)} names for {len(found)} classes")
    own: dict[str, list[int]] = {}
    for label, one in enumerate(found):
        own.setdefault(_bare(one.name), []).append(label)
    for label, name in enumerate(firsts):
        places = own.get(_bare(name), [label])
        if label not in places:
            raise AbsError(
                f"{path}: name {label + 1} is {name!r}, but the dataset has that class at place "
                f"{places[0] + 1}; give an object of names by folder"
            )
    return [
        Class(one.key, name, one.apart or one.name or f"{name} {one.key}")
        for one, name in zip(found, firsts, strict=True)
    ]


def _numbered(found: list[Class], names: list[str], path: Path) -> list[Class]:
    """Classes that are numbers from 0 are joined by them, in whatever order they come."""
    highest = max(int(one.key) for one in found)
    if highest >= len(names):
        raise AbsError(f"{path}: {len(names)} names, but the dataset has a class {highest}")
    if not any(one.name for one in found):  # the last classes may have no image
        return [Class(str(label), name, f"{name} {label}") for label, name in enumerate(names)]
    called = [names[int(one.key)] for one in found]
    return [
        Class(one.key, name, f"{name} {one.key}") for one, name in zip(found, called, strict=True)
    ]


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _refuse_nameless(found: list[Class]) -> None:
    nameless = [one.key for one in found if not one.name.strip()]
    if nameless:
        raise ConfigError(
            f"dataset.names: the dataset has only numbers for its classes, such as {nameless[0]}; "
            "give a JSON list of their names in that order"
        )


def _list(path: Path) -> list[str]:
    names = files.read_json(path, "vocabulary")
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        raise AbsError(f"{path}: expected a list of class names")
    return [str(name) for name in names]


def _place(name: str, vocabulary: list[str], path: Path) -> int:
    if name not in vocabulary:
        raise AbsError(f"{path}: has no class {name!r}; {closest(name, vocabulary)}")
    return vocabulary.index(name)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())
