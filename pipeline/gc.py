"""What of a store nothing needs any more, and how it is deleted.

Kept is what the last run of a dataset needs, what any run of the last days needs, and whatever a
living process is at. All else that has not been written to for as many days is waste.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.claims import living
from pipeline.runs import records
from pipeline.store import TRASH, Artifact, Store, put_aside

DAY = 86400
KILLED = DAY
"""Seconds after which a temporary file is nobody's."""


@dataclass(frozen=True)
class Waste:
    """A folder or file that can go."""

    path: Path
    bytes: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"path": str(self.path), "bytes": self.bytes, "why": self.why}


def waste(store: Store, keep_days: float) -> list[Waste]:
    """What of a dataset can go; nothing is touched."""
    runs = records(store)
    kept = [run for i, run in enumerate(runs) if not i or run.running or run.days < keep_days]
    needed = {(stage, key) for run in kept for stage, key in run.artifacts.items()}
    found = []
    for path in store.folder.glob(f"*/{TRASH}*"):
        found.append(Waste(path, _size(path), "was being deleted"))
    for artifact in store.artifacts():
        if living(artifact.path / "claims"):
            continue
        old = _days(artifact)
        if (artifact.stage, artifact.path.name) in needed or old < keep_days:
            found += _temporaries(artifact)
        else:
            why = f"no run of the last {keep_days:g} days needs it"
            found.append(Waste(artifact.path, _size(artifact.path), why))
    gone = [run for run in runs if run not in kept]
    return found + [Waste(run.path, _size(run.path), "last used too long ago") for run in gone]


def delete(found: Waste) -> bool:
    """Take it out of the store, then delete it; False if a process has claimed it meanwhile."""
    if not found.path.is_dir() or found.path.name.startswith(TRASH):
        shutil.rmtree(found.path) if found.path.is_dir() else found.path.unlink(missing_ok=True)
        return True
    aside = put_aside(found.path)
    if living(aside / "claims"):
        os.replace(aside, found.path)
        return False
    shutil.rmtree(aside)
    return True


def _temporaries(artifact: Artifact) -> Iterator[Waste]:
    for path in artifact.path.rglob(".*"):
        stat = path.lstat()
        if path.is_file() and time.time() - stat.st_mtime > KILLED:
            yield Waste(path, stat.st_size, "left by a process that was killed")


def _days(artifact: Artifact) -> float:
    """Since anything of an artifact was written."""
    parts = [artifact.path, *artifact.path.iterdir()]
    return (time.time() - max(path.lstat().st_mtime for path in parts)) / DAY


def _size(path: Path) -> int:
    return sum(each.lstat().st_size for each in path.rglob("*") if each.is_file())
