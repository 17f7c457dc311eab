"""Checksums of stored files, as receipts state them.

A checksum says by which function it was made: `blake3:` and the first 32 hex digits of BLAKE3. One
without a name is the first half of a sha256, as versions up to 0.2.0 wrote it. BLAKE3 takes a fifth
of the processor time of a sha256 that has instructions of its own, and less where it has none.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3

from pipeline.core.errors import AbsError
from pipeline.core.files import send_to_disk

DIGITS = 32
"""Hex digits of a checksum: 128 bits."""
PIECE = 1 << 20
"""Bytes that are sent to the disk, and hashed, at once."""
FUNCTIONS: dict[str, Callable[[], Any]] = {"blake3": blake3, "": hashlib.sha256}
"""Functions by their names in checksums: that of new receipts, and that of older ones."""


def is_content(content: bytes | memoryview, stated: str, path: Path) -> bool:
    """Return whether bytes have the checksum that a receipt states, by the function it names.

    AbsError that names the file they were read from if the function is unknown.
    """
    name, hashed = _begun(stated, path)
    hashed.update(content)
    return _made_by(name, hashed) == stated


def is_file(path: Path, stated: str) -> bool:
    """Return whether the bytes of a file have a checksum, as `is_content` does for bytes.

    OSError if it cannot be read.
    """
    name, hashed = _begun(stated, path)
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: hashed)
    return _made_by(name, hashed) == stated


def _begun(stated: str, path: Path) -> tuple[str, Any]:
    name, _, _ = stated.rpartition(":")
    if name not in FUNCTIONS:
        raise AbsError(
            f"{path}: its receipt states a checksum by {name}, which this version does not know; "
            "use the version that wrote it, or a newer one"
        )
    return name, FUNCTIONS[name]()


def _made_by(name: str, hashed: Any) -> str:
    digits: str = hashed.hexdigest()[:DIGITS]
    return f"{name}:{digits}" if name else digits


class Content(NamedTuple):
    """Size and checksum of the content of a file, as receipts have them."""

    size: int
    checksum: str


class Hashing(io.RawIOBase):
    """A file that hashes what is written to it on its way to another one.

    The disk is at work on large pieces while they are hashed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hashed, self._size = file, blake3(), 0

    def writable(self) -> bool:
        """Return True: that is all it can do."""
        return True

    def write(self, content: Any, /) -> int:
        """Write and hash all of some bytes; return their number."""
        whole = memoryview(content).cast("B")
        for start in range(0, whole.nbytes, PIECE):
            piece = whole[start : start + PIECE]
            self._file.write(piece)
            if piece.nbytes == PIECE:
                send_to_disk(self._file, self._size, PIECE)
            self._hashed.update(piece)
            self._size += piece.nbytes
        return whole.nbytes

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._size

    @property
    def content(self) -> Content:
        """Size and checksum of all that was written."""
        return Content(self._size, _made_by("blake3", self._hashed))
