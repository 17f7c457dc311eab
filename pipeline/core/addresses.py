"""Remote stores: results can be read from any address that fsspec supports.

Units are written only to local folders, where a file is replaced atomically. Files that are read
from a remote copy are compared with their receipts too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pipeline.core.errors import ConfigError

LOCAL = "file://"


def is_address(place: str) -> bool:
    """Return whether a place is a remote address, not a path of this machine."""
    return "://" in place and not place.startswith(LOCAL)


def opened(place: str | Path) -> Path:
    """Open a local path or a remote address for reading; ConfigError if it cannot be read."""
    text = str(place)
    if not is_address(text):
        return Path(text.removeprefix(LOCAL)).absolute()
    from upath import UPath

    try:
        found = UPath(text)
        found.exists()
    except ImportError as error:  # a package for this kind of address
        raise ConfigError(f"{text}: {error}") from None
    except Exception as error:  # each kind of address has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{text} cannot be read: {reason}") from None
    return cast(Path, found)


def elsewhere(path: Path) -> Any:
    """Return the fsspec file system of a remote path; None for a local path."""
    return None if isinstance(path, Path) else path.fs
