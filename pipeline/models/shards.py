"""Weights in several files: an index that names the file of every tensor, in transformers' layout.

`model.safetensors.index.json` or `pytorch_model.bin.index.json` lies beside the files. Its content
is compared with theirs: a file may be missing or cut short, and a tensor may be in none, in two, or
in another than the index says. Of safetensors this shows before torch is imported, by the headers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.models.first_bytes import no_weights

INDEX = ".index.json"
"""End of an index's name, behind the name that the weights would have in one file."""

HEADER = 100 * 2**20
"""Largest header of a safetensors file, in bytes, as its own library allows."""

Parts = dict[Path, set[str]]
"""Names of the tensors of each file."""


def is_index(file: Path) -> bool:
    """Return whether a file is an index by its name."""
    return file.name.endswith(INDEX)


def files_of(weights: Path) -> list[Path]:
    """Return all files that hold weights: one, or an index and the files that it names."""
    return [weights, *read_index(weights)] if is_index(weights) else [weights]


def names_in(index: Path) -> list[str]:
    """Return the names of the files that an index names; AbsError if it cannot be read."""
    return sorted(set(_weight_map(index).values()))


def read_index(index: Path) -> Parts:
    """Read which tensors each file is to hold.

    Raises:
        AbsError: If it is no index, or names a file that is missing or lies outside its folder.
    """
    parts: Parts = {}
    for tensor, name in sorted(_weight_map(index).items(), key=lambda pair: (pair[1], pair[0])):
        parts.setdefault(index.parent / name, set()).add(tensor)
    if missing := [path.name for path in parts if not path.is_file()]:
        others = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
        raise AbsError(
            f"weights {index} are in {len(parts)} files, of which {missing[0]} is not there{others}"
        )
    return parts


def check(index: Path) -> None:
    """Raise AbsError if files of safetensors are not complete, or not what their index says.

    Only headers are read. Files in other formats are checked when they are loaded.
    """
    expected = read_index(index)
    if all(path.suffix == ".safetensors" for path in expected):
        compare(index, expected, {path: _names(path) for path in expected})


def compare(index: Path, expected: Parts, found: Mapping[Path, Iterable[str]]) -> None:
    """Raise AbsError if files do not hold the tensors that their index says, each once."""
    place: dict[str, Path] = {}
    for path, tensors in found.items():
        for tensor in tensors:
            if tensor in place:
                both = f"{place[tensor].name} and {path.name}"
                raise _wrong(index, f"{tensor} is in two files, {both}")
            place[tensor] = path
    for path, tensors in expected.items():
        for tensor in sorted(tensors):
            if place.pop(tensor, None) != path:
                raise _wrong(index, f"{tensor} is not in {path.name}, where the index has it")
    if place:
        tensor, path = next(iter(place.items()))
        raise _wrong(index, f"{tensor} in {path.name} is not in the index")


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor by name."""
    content = files.read_json(index, "index of weights")
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise _wrong(index, "the index has no weight_map of tensors to files")
    for tensor, name in found.items():
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise _wrong(index, f"{tensor} is in {name!r}, which is no file beside the index")
    return found


def _names(path: Path) -> list[str]:
    """Return the tensors of a safetensors file by its header; AbsError if it is not complete."""
    size = path.stat().st_size
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            header: Any = json.loads(opened.read(length)) if length <= min(size, HEADER) else None
            parts = {name: part for name, part in header.items() if name != "__metadata__"}
            end = 8 + length + max((part["data_offsets"][1] for part in parts.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            raise _unreadable(path) from None
    if end != size:
        raise AbsError(f"weights {path} are not complete: {size:,} of {end:,} bytes")
    return list(parts)


def _unreadable(path: Path) -> AbsError:
    with path.open("rb") as opened:
        words = no_weights(opened.read(512)) or "it has no header of safetensors, or is cut short"
    return AbsError(f"weights {path} cannot be loaded: {words}")


def _wrong(index: Path, what: str) -> AbsError:
    return AbsError(f"weights {index} cannot be loaded: {what}")
