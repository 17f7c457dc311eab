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
from pipeline.errors import AbsError, closest
from pipeline.identity import digest


@dataclass(frozen=True)
class Classes:
    """All classes in label order."""

    names: tuple[str, ...]
    shared: tuple[str, ...]
    """The same before duplicates were made unique: what prompt files know them by."""
    present: tuple[bool, ...]
    """Whether the dataset has the class; others only compete."""

    def identity(self) -> dict[str, Any]:
        """Digest of the names in their order."""
        names = self.names if self.names == self.shared else [self.names, self.shared]
        return {"classes": digest(names)}


def settle(
    found: list[str], names: Path | None, vocabulary: Path | None, unique: bool
) -> tuple[Classes, list[int]]:
    """The classes, and the label of each that the reader found.

    names: a JSON object that renames what was found. vocabulary: a JSON list of all classes, which
    then decides the labels. AbsError for files that do not fit.
    """
    shared = _renamed(found, names) if names else list(found)
    chosen = _apart(shared, found) if unique else shared
    if vocabulary is None:
        return Classes(tuple(chosen), tuple(shared), (True,) * len(found)), list(range(len(found)))
    everything = _list(vocabulary)
    place = [_place(name, everything, vocabulary) for name in shared]
    present = tuple(label in set(place) for label in range(len(everything)))
    return Classes(tuple(everything), tuple(everything), present), place


def _renamed(found: list[str], path: Path) -> list[str]:
    names = files.read_json(path, "class names")
    if not isinstance(names, dict) or not all(map(_is_name, names.values())):
        raise AbsError(f"{path}: expected an object of class names by folder")
    for name in found:
        if name not in names:
            raise AbsError(f"{path}: no name for the class {name!r}; {closest(name, names)}")
    return [names[name] for name in found]


def _apart(shared: list[str], found: list[str]) -> list[str]:
    counts = Counter(shared)
    chosen = [own if counts[name] > 1 else name for name, own in zip(shared, found, strict=True)]
    if len(set(chosen)) < len(chosen):
        twice = next(name for name, count in Counter(chosen).items() if count > 1)
        raise AbsError(
            f"dataset.duplicates: two classes are still called {twice!r}; rename a folder or set "
            f"it to kept"
        )
    return chosen


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
