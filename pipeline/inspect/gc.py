"""Find and delete artifacts, run records and temporary files that nothing needs.

Kept are the artifacts of the last run of a dataset, those of any run of the last days, and those in
use by a running process. All others are garbage once they are that many days old.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.store.artifact import IDENTITY, MANIFEST, TRASH, Artifact, put_aside
from pipeline.store.claims import living
from pipeline.store.runs import records
from pipeline.store.store import Store

DAY = 86400
KILLED = DAY
"""Seconds after which a temporary file counts as abandoned."""


@dataclass(frozen=True)
class Waste:
    """A folder or file that can be deleted."""

    path: Path
    bytes: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return {"path": str(self.path), "bytes": self.bytes, "why": self.why}


def unreferenced(store: Store, keep_days: float) -> list[Waste]:
    """List what can be deleted from a dataset's store; nothing is changed."""
    runs = records(store)
    kept = [run for i, run in enumerate(runs) if not i or run.running or run.days < keep_days]
    needed = {(stage, key) for run in kept for stage, key in run.artifacts.items()}
    found = []
    for path in store.folder.glob(f"*/{TRASH}*"):
        found.append(Waste(path, _size(path), "was being deleted"))
    for artifact in store.artifacts():
        old = _days(artifact)  # before anyone looks for claims, which leaves its own trace
        if living(artifact.path / "claims"):
            continue
        if (artifact.stage, artifact.path.name) in needed or old < keep_days:
            found += _left_over(artifact.path)
        else:
            why = f"no run of the last {keep_days:g} days needs it"
            found.append(Waste(artifact.path, _size(artifact.path), why))
    for run in runs:
        if run in kept:
            found += _left_over(run.path)
        else:
            found.append(Waste(run.path, _size(run.path), "last used too long ago"))
    return found


def delete(store: Store, found: Waste) -> bool:
    """Move it out of the store, then delete it; False if a process has come to use it."""
    if not found.path.is_dir() or found.path.name.startswith(TRASH):
        files.remove(found.path)
        return True
    aside = put_aside(found.path)
    name = found.path.parent.name, found.path.name
    needed = any(run.running and name in run.artifacts.items() for run in records(store))
    if needed or living(aside / "claims"):
        with suppress(OSError):  # unless the process has begun to make it again
            os.replace(aside, found.path)
            return False
    files.remove(aside)
    return True


def _left_over(folder: Path) -> Iterator[Waste]:
    """Temporary files, Zarr's included, and claims that killed processes left long ago."""
    for pattern in (".*", "*.partial", "claims/*.json"):
        for path in folder.rglob(pattern):
            with suppress(FileNotFoundError):
                stat = path.lstat()
                if path.is_file() and time.time() - stat.st_mtime > KILLED:
                    yield Waste(path, stat.st_size, "left by a process that was killed")


def _days(artifact: Artifact) -> float:
    """Days since the last write to an artifact."""
    newest = 0.0
    for path in [artifact.path / name for name in ("ledger", IDENTITY, MANIFEST)]:
        with suppress(FileNotFoundError):
            newest = max(newest, path.lstat().st_mtime)
    return (time.time() - newest) / DAY


def _size(path: Path) -> int:
    total = 0
    for inner in path.rglob("*"):
        with suppress(FileNotFoundError):
            total += inner.lstat().st_size if inner.is_file() else 0
    return total
