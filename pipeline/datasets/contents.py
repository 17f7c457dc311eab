"""Access to the bytes of a dataset's images: one file each, or packed into a few large files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

from pipeline.core.files import version_of


class Contents(Protocol):
    """Images of a dataset by the paths of its listing. Can be pickled for other processes."""

    def has(self, path: str) -> bool:
        """Return whether the image exists."""
        ...

    def group(self, path: str) -> str:
        """Return the shard or folder of the image, whose images the hash cache keeps together."""
        ...

    def where(self, path: str) -> str:
        """Return the image's full name, for messages and the hash cache."""
        ...

    def read(self, path: str) -> bytes:
        """Return the encoded image; AbsError or OSError if it cannot be read."""
        ...

    def version(self, path: str) -> list[int]:
        """Return numbers that differ whenever the bytes may differ, without reading the bytes."""
        ...


@dataclass(frozen=True)
class FolderContents:
    """Image files below a folder."""

    root: Path

    def has(self, path: str) -> bool:
        """Return whether the path is a regular file."""
        try:
            return S_ISREG(os.stat(self.where(path)).st_mode)
        except (OSError, ValueError):
            return False

    def group(self, path: str) -> str:
        """Return the file's folder."""
        return os.path.dirname(path)

    def where(self, path: str) -> str:
        """Return the file's full path."""
        return os.path.join(self.root, path)  # a Path per image is what a listing would wait for

    def read(self, path: str) -> bytes:
        """Return the file's bytes."""
        return Path(self.where(path)).read_bytes()

    def version(self, path: str) -> list[int]:
        """Return the file's size, times and inode."""
        return version_of(self.where(path))
