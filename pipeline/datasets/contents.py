"""Where the bytes of a dataset's images are: in files of their own, or packed into a few large."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

from pipeline.files import version_of


class Contents(Protocol):
    """The images of a dataset by the paths that its listing has. Can be sent to other processes."""

    def has(self, path: str) -> bool:
        """Whether there is such an image."""
        ...

    def where(self, path: str) -> str:
        """The image's full name, for messages."""
        ...

    def read(self, path: str) -> bytes:
        """The image as a file's bytes; AbsError or OSError if they cannot be had."""
        ...

    def version(self, path: str) -> list[int]:
        """Numbers that are others whenever the bytes may be; found without reading them."""
        ...


@dataclass(frozen=True)
class InFolder:
    """Image files below a folder."""

    root: Path

    def has(self, path: str) -> bool:
        """Whether it is a file."""
        try:
            return S_ISREG(os.stat(self.root / path).st_mode)
        except (OSError, ValueError):
            return False

    def where(self, path: str) -> str:
        """The file."""
        return str(self.root / path)

    def read(self, path: str) -> bytes:
        """The file's bytes."""
        return (self.root / path).read_bytes()

    def version(self, path: str) -> list[int]:
        """The file's size, times and inode."""
        return version_of(self.root / path)
