"""Sweeps in a store: a table of results, and beside it a record of what was asked for.

<root>/<dataset>/sweeps/<title>-<digest>.parquet    a row per setting and method
<root>/<dataset>/sweeps/<title>-<digest>.json       experiment, selection, keys of the runs

The digest is that of the record, so that no sweep ever overwrites another, and the same sweep is
written again under its own name.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.errors import ConfigError, Damaged, MissingInput, did_you_mean
from pipeline.core.hashing import digest
from pipeline.core.layers import known
from pipeline.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "sweeps"
"""Folder of sweeps, beside the folders of the stages."""
FIGURES = ("top1", "top5", "mean_per_class_recall", "ece")
"""Columns of a sweep's table that are figures of `metrics`, as shares of 1."""
SETTLED = "crops_used"
"""Column that `metrics` has besides if images settle early: crops of an image, on average."""
SCORING = "scoring_s"
"""Column of the seconds that a method took to score, if `runtime.method_seconds` measured them."""
REMARK = "remark"
"""Column of what readers of figures must know, if any row has such a remark."""


@dataclass(frozen=True)
class StoredSweep:
    """A stored sweep, whose table is read on request."""

    store: Store
    name: str
    """Title and digest."""

    @classmethod
    def of(cls, store: Store, title: str, record: dict[str, Any]) -> StoredSweep:
        """Name the sweep of a record."""
        return cls(store, f"{title}-{digest(record)[:8]}")

    @property
    def path(self) -> Path:
        """File of the table."""
        return self.store.folder / FOLDER / f"{self.name}.parquet"

    @property
    def record(self) -> dict[str, Any]:
        """Experiment, selection and keys of the runs; empty for a sweep of an older version."""
        try:
            found: dict[str, Any] = files.read_sealed(self.path.with_suffix(".json"), "a sweep")
            return found
        except MissingInput:
            return {}

    @property
    def selection(self) -> str:
        """Profile and common settings, as in the title of its table."""
        return str(self.record.get("selection", "settings not recorded"))

    def table(self) -> pd.DataFrame:
        """Read the table: a row per setting and method."""
        import pandas as pd

        with self.path.open("rb") as file:  # the store may be at an address
            return pd.read_parquet(file)

    def write(self, table: pd.DataFrame, record: dict[str, Any]) -> None:
        """Write the record, then the table, each in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_sealed(self.path.with_suffix(".json"), record)
        temporary = self.path.with_name(f".{self.name}-{uuid.uuid4().hex[:8]}")
        table.to_parquet(temporary, index=False)
        temporary.replace(self.path)

    def as_dict(self) -> dict[str, Any]:
        """Return a row for a list of sweeps, as JSON types."""
        try:
            chosen, runs = self.selection, len(self.record.get("runs", []))
        except Damaged as error:
            chosen, runs = str(error), 0
        written = datetime.fromtimestamp(self.path.stat().st_mtime).isoformat(" ", "minutes")
        base = {"name": self.name, "dataset": self.store.dataset, "runs": runs}
        return {**base, "settings": chosen, "written": written}


def settings_in(table: pd.DataFrame) -> list[str]:
    """Return the columns of a sweep's table that are settings, by dotted name."""
    return [str(name) for name in table if "." in str(name)]


def stored_sweeps(store: Store) -> list[StoredSweep]:
    """List the sweeps of a dataset, the last written first."""
    paths = list((store.folder / FOLDER).glob("[!.]*.parquet"))
    paths.sort(key=lambda path: -path.stat().st_mtime)
    return [StoredSweep(store, path.name.removesuffix(".parquet")) for path in paths]


def stored_sweep(store: Store, name: str) -> StoredSweep:
    """Find a sweep by its name or by a beginning that only one has. Raises ConfigError."""
    names = [sweep.name for sweep in stored_sweeps(store)]
    found = [name] if name in names else [each for each in names if each.startswith(name)]
    if not found:
        hint = did_you_mean(name, [*known("experiments"), *names])
        raise ConfigError(f"unknown experiment or sweep {name!r}; {hint}")
    if len(found) > 1:
        raise ConfigError(f"{name!r}: several sweeps begin like this: {', '.join(found)}; name one")
    return StoredSweep(store, found[0])
