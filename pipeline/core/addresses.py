"""Stores that are somewhere else: any address that fsspec knows, to read from.

Units are only written where a file is replaced in one step; results can be read wherever a finished
store was copied to. What is read is compared with its receipts there as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pipeline.core.errors import ConfigError

LOCAL = "file://"


def is_address(place: str) -> bool:
    """Whether a place is more than a path of this machine."""
    return "://" in place and not place.startswith(LOCAL)


def opened(place: str | Path) -> Path:
    """A place to read from: a path of this machine, or what reads like one. ConfigError if none."""
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
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{text} cannot be read: {told}") from None
    return cast(Path, found)


def elsewhere(path: Path) -> Any:
    """The file system of a path, where it is not that of this machine; else None."""
    return None if isinstance(path, Path) else path.fs


def zarr_options(path: Path) -> dict[str, Any]:
    """How Zarr opens what lies at a path."""
    there: Any = path
    if elsewhere(path) is None:
        return {"store": there}
    return {"store": str(there), "storage_options": dict(there.storage_options)}
