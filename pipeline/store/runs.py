"""Run records: which settings were run, and which artifacts they need.

A record is `<store>/<dataset>/runs/<digest of keys>/run.json`; its mtime is the time of last use.
`abs gc` keeps the artifacts of recorded runs; nothing else depends on the records.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.addresses import elsewhere
from pipeline.core.errors import Damaged, MissingInput
from pipeline.core.hashing import digest
from pipeline.store.claims import Claim, claimed, living
from pipeline.store.store import RUNS, Store

if TYPE_CHECKING:
    from pipeline.core.section import Section
    from pipeline.store.units import Keyed


@dataclass(frozen=True)
class Record:
    """Record of one run."""

    path: Path
    options: str
    settings: dict[str, Any]
    artifacts: dict[str, str]
    """The key of each stage."""
    days: float
    """Days since the run was last used."""
    running: bool
    """True while a living process runs it."""


@contextmanager
def on_record(store: Store, stages: Sequence[Keyed], settings: Section) -> Iterator[None]:
    """Record a run, and hold a claim on it until the block ends.

    On a read-only store nothing is recorded; gc could not delete from it anyway.
    """
    keys = {stage.name: stage.key for stage in stages}
    folder = store.folder / RUNS / digest(keys)
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.write_sealed(
                folder / "run.json",
                {
                    "options": store.options,
                    "settings": settings.model_dump(mode="json"),
                    "artifacts": keys,
                },
            )
            held.enter_context(claimed(folder / "claims"))
        except OSError:
            held.close()
        yield


def records(store: Store) -> list[Record]:
    """Return all recorded runs of a dataset, last used first; Damaged if a record has changed."""
    found = []
    for path in store.folder.glob(f"{RUNS}/*/run.json"):
        try:
            content = files.read_sealed(path, "the record of a run")
            days = (time.time() - path.stat().st_mtime) / 86400
        except (MissingInput, FileNotFoundError):
            continue  # deleted meanwhile
        except Damaged as error:
            raise Damaged(f"{error}; run its settings again, or remove {path.parent}") from None
        found.append(Record(path.parent, **content, days=days, running=_running(path.parent)))
    return sorted(found, key=lambda record: record.days)


def users(store: Store, stage: Keyed) -> list[Claim]:
    """Return the claims of processes whose runs need a stage's artifact."""
    needing = [run for run in records(store) if run.artifacts.get(stage.name) == stage.key]
    return [claim for run in needing for claim in living(run.path / "claims")]


def _running(folder: Path) -> bool:
    return elsewhere(folder) is None and bool(living(folder / "claims"))
