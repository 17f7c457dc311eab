"""Files that appear whole or not at all, and digests that are computed once per file version."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core.errors import AbsError, Damaged, MissingInput


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends, by fsync and rename.

    Its folder must be there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def send_to_disk(file: BinaryIO, start: int, size: int) -> None:
    """Let the system begin to write a part of a file to the disk, so that fsync waits less for it.

    Only Linux can; elsewhere nothing is done. What fails on the way is fsync's to say, as without.
    """
    if _sync_file_range:
        file.flush()
        _sync_file_range(file.fileno(), ctypes.c_int64(start), ctypes.c_int64(size), BEGIN_WRITING)


BEGIN_WRITING = 2
"""SYNC_FILE_RANGE_WRITE of Linux."""
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


def write_atomic(path: Path, *content: bytes | memoryview) -> None:
    """Write bytes to `path` by temporary file, fsync and rename. Its folder must be there."""
    with replacing(path) as file:
        file.writelines(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, rendered(value))


def rendered(value: Any) -> bytes:
    """Return the bytes that `write_json` writes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


_compact = json.JSONEncoder(sort_keys=True).encode


def rendered_by_line(value: dict[str, Any]) -> bytes:
    """Return JSON with a line for each name, which takes a fifth of the time of `rendered`."""
    lines = ",\n".join(f' "{name}": {_compact(value[name])}' for name in sorted(value))
    return f"{{\n{lines}\n}}\n".encode()


def read_json(path: Path, what: str) -> Any:
    """Read JSON, with or without a byte order mark; AbsError names `what` if that fails."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise AbsError(f"{what} {path} is empty; fill it, or remove it from the settings")
        return json.loads(text, object_pairs_hook=_unique)
    except FileNotFoundError:
        raise MissingInput(f"{what} not found: {path}") from None
    except UnicodeDecodeError as error:
        raise AbsError(f"{what} {path} is not UTF-8 ({error}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise AbsError(f"{what} {path} is not valid JSON: {error}") from None
    except IsADirectoryError:
        raise AbsError(f"{what} {path} is a folder") from None


def write_sealed(
    path: Path, value: dict[str, Any], render: Callable[[dict[str, Any]], bytes] = rendered
) -> None:
    """Write JSON with a digest of its own content, so that any changed byte is detected."""
    before, _, comma, after = _SEAL.split(render({**value, "seal": "0" * 32}))
    seal = seal_of(_without_seal(before, comma, after)).encode()
    write_atomic(path, before + b'\n "seal": "%b"%b' % (seal, comma) + after)


def read_sealed(path: Path, what: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote; MissingInput without a file, Damaged for any other bytes."""
    return parse_sealed(sealed_bytes(path, what))


def sealed_bytes(path: Path, what: str) -> bytes:
    """Return the bytes that `write_sealed` wrote, verified, as `read_sealed` does."""
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
    return content


def parse_sealed(content: bytes) -> dict[str, Any]:
    """Return the value in the bytes of a sealed file."""
    value = dict(json.loads(content))
    del value["seal"]
    return value


_WHOLE: set[bytes] = set()
"""sha256 of sealed contents that were verified; verifying costs more than hashing."""


_SEAL = re.compile(rb'\n "seal": "([0-9a-f]{32})"(,?)')
"""The line of a sealed file's outer object that holds its seal; no other line begins like it."""


def _is_whole(content: bytes) -> bool:
    """Return whether a seal is that of the other bytes, as `write_sealed` rendered them."""
    before, *found = _SEAL.split(content)
    if len(found) != 3:
        return False
    seal, comma, after = found
    return bool(seal_of(_without_seal(before, comma, after)) == seal.decode())


def _without_seal(before: bytes, comma: bytes, after: bytes) -> bytes:
    """Return a file without the line of its seal, which a comma may follow."""
    return (before if comma else before.removesuffix(b",")) + after


def seal_of(content: bytes | memoryview) -> str:
    """Digest of text that is stored with it: half of a sha256."""
    return seal_in(hashlib.sha256(content))


def seal_in(hashed: hashlib._Hash) -> str:
    """Digest of the bytes that a sha256 was given, as `seal_of` returns it."""
    return hashed.hexdigest()[:32]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is listed twice")
    return found


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file, across processes, until the block ends.

    Yields True. If another process holds it and `wait` is false, yields False at once.
    """
    with open(path, "w") as file:
        held = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = False
        yield held


def sync_folder(path: Path) -> None:
    """Flush a folder, so that files that were renamed into it stay there without power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


TICK = 2_000_000_000
"""Coarsest step of a file system's timestamps in nanoseconds: that of FAT."""


def version_of(path: Path | str) -> list[int]:
    """Size, times and inode of a file; they differ whenever its bytes may differ.

    A file that was changed within the last TICK may change again without another timestamp, so
    its version equals no other one.
    """
    return version_in(os.stat(path))


def version_in(stat: os.stat_result) -> list[int]:
    """The version of a file that was looked at just now, as `version_of` returns it."""
    now, times = time.time_ns(), (stat.st_mtime_ns, stat.st_ctime_ns)
    young = [uuid.uuid4().int] if any(abs(now - each) < TICK for each in times) else []
    return [stat.st_size, *times, stat.st_ino, *young]


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
