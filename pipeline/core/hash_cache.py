"""sha256 of files, computed once per version of a file; several processes share the work."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.core.columns import DigestColumn
from pipeline.core.files import locked, sha256_of, version_of, write_atomic
from pipeline.core.hashing import digest
from pipeline.core.threads import READERS, prefetch, readers

if TYPE_CHECKING:
    import numpy as np

SAVE_EVERY = 5000
"""Least number of newly hashed files after which a group is saved; also a quarter of it."""


class Readable(Protocol):
    """Named contents whose bytes can be read and whose changes show without reading them."""

    def group(self, path: str) -> str:
        """Name of the shard or folder of a content: its contents are remembered in one file."""
        ...

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

    A folder with a file for each group of contents. One group is in memory at a time, and processes
    that hash the same contents each take groups that no other one is at. A damaged or lost file is
    rebuilt by reading its contents again.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    @cached_property
    def _single(self) -> _Group:
        """The group of single files."""
        return _Group(self._file("files"))

    def sha256(self, path: Path) -> str:
        """Return the sha256 of one file."""
        look = str(path), version_of(path)
        found = self._single.recall(*look)
        if found is None:
            found = sha256_of(path)
            self._single.remember(*look, found)
            self._single.save()
        return found

    def sha256_many(
        self, contents: Readable, paths: Sequence[str], advance: Callable[[int], None]
    ) -> DigestColumn:
        """Return the sha256 of each content in order; read only those that have changed.

        `advance` is called with the number of contents whose sha256 is known. Groups that another
        process is at are left to it, and looked at again in the end. Results are saved now and
        then, so that an interrupted call resumes.
        """
        groups, found = _groups(contents, paths), DigestColumn(len(paths))
        for wait in (False, True):
            for name, places in list(groups.items()):
                chosen = [paths[place] for place in places]
                shas = self._of_group(name, contents, chosen, advance, wait)
                if shas is not None:
                    del groups[name]
                    for place, sha in zip(places, shas, strict=True):
                        found[place] = sha
        return found

    def _of_group(
        self,
        name: str,
        contents: Readable,
        paths: Sequence[str],
        advance: Callable[[int], None],
        wait: bool,
    ) -> list[str] | None:
        """Return the sha256 of contents of a group; None if another process is at it.

        If `wait` is true, wait for that process instead.
        """
        group = _Group(self._file(name))
        if group.unknown(contents, paths):
            with self._lock(group.file, wait) as held:
                if not held:
                    return None
                group = _Group(group.file)  # as another process may have left it meanwhile
                unknown = group.unknown(contents, paths)
                advance(len(paths) - len(unknown))
                group.hash(contents, unknown, advance)
        else:
            advance(len(paths))
        return [group.known[contents.where(path)][-1] for path in paths]

    def _file(self, group: str) -> Path:
        return self._memory / digest(group)

    @contextmanager
    def _lock(self, file: Path, wait: bool) -> Iterator[bool]:
        """Keep other processes from a group; yield whether that is so, or cannot be."""
        lock = file.with_suffix(".lock")
        with ExitStack() as opened:
            held = True
            with suppress(OSError):  # a read-only store: every process hashes for itself
                _make(self._memory)
                held = opened.enter_context(locked(lock, wait))
            try:
                yield held
            finally:
                if held:
                    with suppress(OSError):
                        lock.unlink()


def _groups(contents: Readable, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the places of the contents of each group, ascending: int64 (n,)."""
    import numpy as np

    numbers: dict[str, int] = {}
    named = map(contents.group, paths)
    group = np.fromiter((numbers.setdefault(name, len(numbers)) for name in named), np.int32)
    places = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=len(numbers)))[:-1]
    return dict(zip(numbers, np.split(places, ends), strict=False))


class _Group:
    """Version and sha256 of each content of a group, by its full name.

    The first line of the file is the sha256 of the rest.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._unsaved = file, 0

    @cached_property
    def known(self) -> dict[str, list[Any]]:
        """Versions and sha256 that the file holds; none if it is damaged."""
        try:
            seal, _, content = self.file.read_bytes().partition(b"\n")
        except OSError:
            return {}
        return dict(json.loads(content)) if seal == _sealed(content) else {}

    def unknown(self, contents: Readable, paths: Sequence[str]) -> list[str]:
        """Return the contents whose sha256 is not known as they are."""
        return [p for p in paths if self.recall(contents.where(p), contents.version(p)) is None]

    def hash(
        self, contents: Readable, unknown: Sequence[str], advance: Callable[[int], None]
    ) -> None:
        """Read contents, and save their sha256."""

        def read(path: str) -> tuple[list[int], str]:
            version = contents.version(path)  # before the bytes: a change meanwhile shows
            return version, hashlib.sha256(contents.read(path)).hexdigest()

        for path, done in prefetch(readers(), read, unknown, depth=4 * READERS):
            self.remember(contents.where(path), *done.result())
            if self._unsaved >= max(SAVE_EVERY, len(self.known) // 4):
                self.save()
            advance(1)
        self.save()

    def recall(self, name: str, version: list[int]) -> str | None:
        """Return the sha256 of a content in one version; None if it is not known."""
        known = self.known.get(name)
        return str(known[-1]) if known is not None and known[:-1] == version else None

    def remember(self, name: str, version: list[int], sha256: str) -> None:
        """Add a sha256; `save` keeps it."""
        self.known[name] = [*version, sha256]
        self._unsaved += 1

    def save(self) -> None:
        """Write what is new; a read-only store keeps nothing, and the next look hashes again."""
        if not self._unsaved:
            return
        self._unsaved = 0
        with suppress(OSError):
            _make(self.file.parent)
            content = list(_pieces(self.known))
            write_atomic(self.file, _sealed(*content) + b"\n", *content)


def _make(memory: Path) -> None:
    """Make the folder of a cache, in place of the one file of older versions."""
    if memory.is_file():
        memory.unlink()
    memory.mkdir(parents=True, exist_ok=True)


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
