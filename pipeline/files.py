"""Files that appear whole or not at all, and digests that are computed once per file version."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import AbsError, Damaged, MissingInput
from pipeline.flow import READERS, ahead, readers

if TYPE_CHECKING:
    from pipeline.datasets.contents import Contents


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` by temporary file, fsync and rename. Its folder must be there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, rendered(value))


def rendered(value: Any) -> bytes:
    """The bytes that `write_json` writes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def read_json(path: Path, what: str) -> Any:
    """The JSON in `path`; an AbsError that names `what` if it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except FileNotFoundError:
        raise MissingInput(f"{what} not found: {path}") from None
    except (ValueError, RecursionError) as error:
        raise AbsError(f"{what} {path} is not valid JSON: {error}") from None
    except IsADirectoryError:
        raise AbsError(f"{what} {path} is a folder") from None


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """The same with a digest of itself, so that no byte of it can change unnoticed."""
    write_json(path, {**value, "seal": _seal(value)})


def read_sealed(path: Path, what: str) -> dict[str, Any]:
    """What `write_sealed` wrote; MissingInput without a file, Damaged for any other bytes."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingInput(f"{what} not found: {path}") from None
    except IsADirectoryError:
        raise Damaged(f"{what} is a folder: {path}") from None
    known = hashlib.sha256(content).digest()
    if known not in _WHOLE and not _is_whole(content):
        raise Damaged(f"{what} is damaged: {path}")
    _WHOLE.add(known)
    value = dict(json.loads(content))
    del value["seal"]
    return value


_WHOLE: set[bytes] = set()
"""sha256 of sealed contents that were seen to be whole; to see it costs more than to read them."""


def _is_whole(content: bytes) -> bool:
    try:
        value = json.loads(content)
        same = rendered(value) == content
        seal = value.pop("seal")
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        return False
    return same and bool(seal == _seal(value))


def _seal(value: dict[str, Any]) -> str:
    return hashlib.sha256(rendered(value)).hexdigest()[:32]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return found


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """Digest of a file's bytes as receipts have it: half of its sha256."""
    return _sha256(path)[:32]


def checksum_of(content: bytes) -> str:
    """The same of bytes that were read."""
    return hashlib.sha256(content).hexdigest()[:32]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes that lock this file, for as long as the block runs."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


SAVE_EVERY = 5000
"""Files that are read before their digests are saved."""


def version_of(path: Path) -> list[int]:
    """Size, times and inode of a file: others whenever its bytes may be."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


class Digests:
    """sha256 of files and of parts of them, remembered with their versions.

    The memory is advice: a damaged or lost one is rebuilt by reading the files again. It begins
    with the sha256 of what follows.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, list[Any]] = {}
        self._unsaved = 0
        try:
            seal, _, content = memory.read_bytes().partition(b"\n")
        except OSError:
            return
        if seal == _sealed(content):
            self._known = json.loads(content)

    def sha256(self, path: Path) -> str:
        """sha256 of one file."""
        look = str(path), version_of(path)
        if self._recall(*look) is None:
            self._remember(*look, _sha256(path))
            self._save()
        return str(self._known[look[0]][-1])

    def sha256_many(
        self, contents: Contents, paths: Iterable[str], advance: Callable[[int], None]
    ) -> list[str]:
        """sha256 of each image in turn; reads only those that changed since the last look.

        `advance` is told of each. What was read is remembered now and then, so that an interrupted
        look goes on from there.
        """
        paths = list(paths)
        looks = [(contents.where(path), contents.version(path)) for path in paths]
        every = zip(paths, looks, strict=True)
        unknown = [(path, look) for path, look in every if self._recall(*look) is None]
        advance(len(paths) - len(unknown))

        def read(item: tuple[str, object]) -> str:
            return hashlib.sha256(contents.read(item[0])).hexdigest()

        for (_, look), sha256 in ahead(readers(), read, unknown, depth=4 * READERS):
            self._remember(*look, sha256.result())
            advance(1)
        self._save()
        return [str(self._known[name][-1]) for name, _ in looks]

    def _recall(self, name: str, version: list[int]) -> str | None:
        known = self._known.get(name)
        return str(known[-1]) if known is not None and known[:-1] == version else None

    def _remember(self, name: str, version: list[int], sha256: str) -> None:
        self._known[name] = [*version, sha256]
        self._unsaved += 1
        if self._unsaved == SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        if not self._unsaved:
            return
        self._unsaved = 0
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps(self._known).encode()
            write_atomic(self._memory, _sealed(content) + b"\n" + content)
        except OSError:
            return  # a read-only store can still be read; the next look hashes again


def _sealed(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
