"""Memory of a dataset's listing, valid as long as none of its files has changed.

Listing a dataset reads every folder, every header of a shard, or every row of a table, and its
digest follows from a sha256 for every image. Of a listing that follows from one place, the classes,
the number of images and the digest are kept beside the digests of images. They are used again where
every file below that place has the name, size, times and inode that it had, and the code that lists
is the same. Each file is looked at once; none is opened. Nothing is kept while a file is so young
that it could change without another timestamp.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import PIL

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.core.files import version_in
from pipeline.datasets.classes import Classes


@dataclass(frozen=True)
class Summary:
    """Facts of a dataset that commands need while no image is to be read."""

    classes: Classes
    images: int
    """Number of images."""
    digest: str
    """Digest of paths, labels and contents."""


def recall(memory: Path, seen: str) -> Summary | None:
    """Return the summary that was kept for files as they are; None without one."""
    if not seen:
        return None
    try:
        kept = files.read_sealed(memory, "a remembered listing")
        if kept.pop("seen") != seen:
            return None
        classes = {name: _tuples(value) for name, value in kept.pop("classes").items()}
        return Summary(Classes(**classes), **kept)
    except (AbsError, LookupError, TypeError, AttributeError):
        return None


def keep(memory: Path, seen: str, summary: Summary) -> None:
    """Keep a summary for files as they are; a store that can only be read keeps none."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        files.write_sealed(memory, {"seen": seen, **asdict(summary)})
    except OSError:
        return


def look(places: list[Path], settings: str) -> str:
    """Return a digest of the versions of all files in some places, of settings and of the code.

    A place is a file, or a folder with all that is below it; links are followed, each folder once.
    """
    hashed = hashlib.blake2b(f"{settings}\n{code_that_lists()}".encode(), digest_size=16)
    for place in places:
        for name, version in _versions(str(place), set()):
            hashed.update(os.fsencode(f"{name}\0{version}\n"))
    return hashed.hexdigest()


def _versions(path: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, object]]:
    """Yield path and version of a file, or of a folder and, unless it was `seen`, all below it.

    What cannot be looked at has the number of the error in place of a version. The times of a
    folder tell whether a name in it stands for something else, such as a link for a folder.
    """
    try:
        stat = os.stat(path)
        folder = stat.st_dev, stat.st_ino
        yield path, (stat.st_mode, *version_in(stat), stat.st_dev)
        if not S_ISDIR(stat.st_mode) or folder in seen:
            return
        seen.add(folder)
        names = sorted(os.listdir(path))
    except OSError as error:
        yield path, error.errno
        return
    for name in names:
        yield from _versions(os.path.join(path, name), seen)


@cache
def code_that_lists() -> str:
    """Return a digest of the code that lists datasets, and of the formats that Pillow reads."""
    hashed = hashlib.blake2b(PIL.__version__.encode(), digest_size=8)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
