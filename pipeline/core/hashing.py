"""Keys: a digest of everything that decides an artifact's content.

The code here refuses what it cannot serialise exactly, rather than hash a description of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SCHEMA = 3
"""Version of the artifact layout and of the key itself."""
PIECE = 1000
"""Items of a long list that are serialised at once."""


def canonical(value: Any) -> Any:
    """`value` as JSON types only; raises TypeError for anything without one exact form."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} has no exact JSON form")
        return value
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"a mapping in a key needs string names: {list(value)}")
        return {name: canonical(item) for name, item in value.items()}
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


def canonical_json(value: Any) -> str:
    """Serialise a value to the one JSON text that stands for it, with sorted names."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """16 hex digits of blake2b over the canonical JSON of `value`."""
    return digest_of([canonical_json(value)])


def digest_of(texts: Iterable[str]) -> str:
    """16 hex digits of blake2b over canonical JSON that is given in pieces."""
    hashed = hashlib.blake2b(digest_size=8)
    for text in texts:
        hashed.update(text.encode())
    return hashed.hexdigest()


def pieces_of_list(items: Iterable[Any]) -> Iterator[str]:
    """Yield the canonical JSON of a list in pieces, without holding all of its items."""
    comma, left = "[", iter(items)
    while some := list(itertools.islice(left, PIECE)):
        yield comma + canonical_json(some)[1:-1]
        comma = ","
    yield "[]" if comma == "[" else "]"
