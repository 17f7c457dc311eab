"""sha256 of files, computed once per version of a file."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.files import sha256_of, version_of, write_atomic
from pipeline.core.threads import READERS, prefetch, readers

SAVE_EVERY = 5000
"""Least number of newly hashed files after which the cache is saved; also a quarter of all."""


class Readable(Protocol):
    """Named contents whose bytes can be read and whose changes show without reading them."""

    def where(self, path: str) -> str:
        """The full name of a content."""
        ...

    def version(self, path: str) -> list[int]:
        """Numbers that differ whenever the bytes may differ."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes."""
        ...


class HashCache:
    """sha256 of files and of parts of them, cached with the version of each.

    A damaged or lost cache is rebuilt by reading the files again. Its first line is the sha256 of
    the rest.
    """

    def __init__(self, memory: Path) -> None:
        self._memory, self._unsaved = memory, 0

    @cached_property
    def _known(self) -> dict[str, list[Any]]:
        """Version and sha256 of each content by its full name."""
        try:
            seal, _, content = self._memory.read_bytes().partition(b"\n")
        except OSError:
            return {}
        return dict(json.loads(content)) if seal == _sealed(content) else {}

    def sha256(self, path: Path) -> str:
        """Return the sha256 of one file."""
        look = str(path), version_of(path)
        if self._recall(*look) is None:
            self._remember(*look, sha256_of(path))
            self._save()
        return str(self._known[look[0]][-1])

    def sha256_many(
        self, contents: Readable, paths: Iterable[str], advance: Callable[[int], None]
    ) -> list[str]:
        """Return the sha256 of each content in order; read only those that have changed.

        `advance` is called with the number of newly hashed contents. Results are saved now and
        then, so that an interrupted call resumes.
        """
        paths = list(paths)
        unknown = [
            path
            for path in paths
            if self._recall(contents.where(path), contents.version(path)) is None
        ]
        advance(len(paths) - len(unknown))

        def read(path: str) -> tuple[list[int], str]:
            version = contents.version(path)  # before the bytes: a change meanwhile shows
            return version, hashlib.sha256(contents.read(path)).hexdigest()

        for path, done in prefetch(readers(), read, unknown, depth=4 * READERS):
            self._remember(contents.where(path), *done.result())
            advance(1)
        self._save()
        found = [str(self._known[contents.where(path)][-1]) for path in paths]
        del self._known  # of a million images it takes a gigabyte; it is read again if asked for
        return found

    def _recall(self, name: str, version: list[int]) -> str | None:
        known = self._known.get(name)
        return str(known[-1]) if known is not None and known[:-1] == version else None

    def _remember(self, name: str, version: list[int], sha256: str) -> None:
        self._known[name] = [*version, sha256]
        self._unsaved += 1
        if self._unsaved >= max(SAVE_EVERY, len(self._known) // 4):
            self._save()

    def _save(self) -> None:
        if not self._unsaved:
            return
        self._unsaved = 0
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            content = list(_pieces(self._known))
            write_atomic(self._memory, _sealed(*content) + b"\n", *content)
        except OSError:
            return  # a read-only store can still be read; the next look hashes again


def _pieces(known: dict[str, list[Any]]) -> Iterator[bytes]:
    """Yield the JSON of what is known in pieces: as one text it would take thrice the memory."""
    comma, left = b"{", iter(known.items())
    while some := dict(itertools.islice(left, SAVE_EVERY)):
        yield comma + json.dumps(some)[1:-1].encode()
        comma = b", "
    yield b"{}" if comma == b"{" else b"}"


def _sealed(*content: bytes) -> bytes:
    hashed = hashlib.sha256()
    for piece in content:
        hashed.update(piece)
    return hashed.hexdigest().encode()
