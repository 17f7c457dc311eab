"""Writing of an artifact: units by any process, then the manifest over all of them.

A unit's files come first, then its receipt; the manifest comes last. So whatever is read meanwhile,
or after a process was killed, is whole or missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.checksums import Content, Hashing
from pipeline.core.errors import AbsError
from pipeline.core.hashing import SCHEMA
from pipeline.store import arrays
from pipeline.store.artifact import IDENTITY, MANIFEST, Artifact
from pipeline.store.ledger import Receipt
from pipeline.store.summary import Summary
from pipeline.store.units import ArraySpec, Unit, names_of

if TYPE_CHECKING:
    from pipeline.store.units import Output


@dataclass(frozen=True)
class ArtifactWriter:
    """Writer of one artifact, in any process: files and receipts of its units, and its manifest."""

    artifact: Artifact
    _opened: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Metadata of the arrays that units are written to."""

    @property
    def path(self) -> Path:
        """The folder of the artifact."""
        return self.artifact.path

    def begin(self, identity: dict[str, Any]) -> None:
        """Make the folder and say in clear what its key stands for."""
        for folder in ("ledger", "claims"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        files.write_json(self.path / IDENTITY, identity)
        files.write_json(self.path / arrays.METADATA, arrays.GROUP)

    def create(self, spec: ArraySpec) -> None:
        """Create an array, or let an existing one grow to `spec.shape`; it never shrinks.

        How far it grew is on record, so that `verify` can tell a run that was killed from damage.
        """
        self._opened.pop(spec.name, None)
        folder = self.path / f"{spec.name}.zarr"
        with files.locked(self.path / "claims" / f"{spec.name}.lock"):
            arrays.create(folder, spec)
            files.write_sealed(_growth(self.path, folder.name), arrays.described(folder) or {})

    def write(self, unit: Unit, outputs: dict[str, Output]) -> dict[str, Content]:
        """Write a unit's outputs to the disk; return what each file holds, by its path below here.

        That is known from what was written: no file is read again.
        """
        import pandas as pd

        written = {}
        for name, value in outputs.items():
            write = self._write_table if isinstance(value, pd.DataFrame) else self._write_chunk
            file, content = write(unit, name, value)
            written[file] = content
        return written

    def _write_table(self, unit: Unit, name: str, table: Any) -> tuple[str, Content]:
        file = f"{name}.parquet"
        if unit.name != "all":
            (self.path / file).mkdir(exist_ok=True)
            file = f"{file}/{unit.name}.parquet"
        with files.replacing(self.path / file) as opened:
            hashing = Hashing(opened)
            table.to_parquet(hashing, index=False)
        return file, hashing.content

    def _write_chunk(self, unit: Unit, name: str, values: Any) -> tuple[str, Content]:
        folder = self.path / f"{name}.zarr"
        if name not in self._opened:
            self._opened[name] = arrays.described(folder)
        metadata = self._opened[name] or self.artifact.damaged(f"{folder.name}/{arrays.METADATA}")
        values = values.astype(arrays.dtype_of(metadata), copy=False)
        if not arrays.all_finite(values):
            raise AbsError(
                f"{self.artifact.stage}: unit {unit.name} has NaN or infinite values; the weights "
                f"or what was stored before in {self.path.parent.parent} are damaged"
            )
        chunk, content = arrays.write_chunk(folder, metadata, unit, values)
        return f"{folder.name}/{chunk}", content

    def commit(
        self,
        unit: Unit,
        rows: int,
        written: Mapping[str, Content],
        seconds: dict[str, float],
        maker: dict[str, Any],
        by_method: dict[str, float] | None = None,
    ) -> None:
        """Write the receipt of a unit whose files were written: from here on it is finished."""
        steps = {name: round(value, 4) for name, value in seconds.items()}
        finer = {name: round(value, 6) for name, value in (by_method or {}).items()}
        receipt = Receipt(unit.name, rows, dict(written), steps, maker, now(), unit.size, finer)
        self.artifact.ledger.write(receipt)
        (self.path / "failures" / f"{unit.name}.txt").unlink(missing_ok=True)

    def fail(self, unit: Unit, traceback: str) -> None:
        """Record why a unit raised. It stays unfinished and is tried again by the next run."""
        (self.path / "failures").mkdir(exist_ok=True)
        files.write_atomic(self.path / "failures" / f"{unit.name}.txt", traceback.encode())

    def finalise(self, wanted: Iterable[Unit], provenance: dict[str, Any]) -> None:
        """Seal the receipts of all finished units, then write the manifest over them.

        A process that is killed on the way leaves the receipts as they were, or twice. AbsError if
        one of those `wanted` is not finished.
        """
        with self.artifact.ledger.locked():
            found = Summary(self.artifact.ledger.finished())
            for name in names_of(wanted):
                if name not in found.units:
                    raise AbsError(
                        f"{self.artifact.stage}: unit {name} was removed while others were "
                        "computed; run the same command again"
                    )
            fitted = {name: arrays.fit(self.path / name, own) for name, own in found.chunks.items()}
            of = {"schema": SCHEMA, "stage": self.artifact.stage, "key": self.path.name}
            of |= {"finished": now(), **found.fields, "arrays": fitted, **provenance}
            self._write_manifest(of, found)

    def seal(self) -> None:
        """Seal receipts that a killed process, or an older version, left beside the manifest.

        Nothing is done while units are there that the manifest does not state: a run is under way.
        """
        loose = self.artifact.ledger.loose()
        if not loose or not self.artifact.manifest["units"].keys() >= set(loose):
            return
        with self.artifact.ledger.locked():
            found = Summary(self.artifact.ledger.finished())
            if found.units == self.artifact.manifest["units"]:
                self._write_manifest(self.artifact.manifest, found)

    def _write_manifest(self, manifest: dict[str, Any], found: Summary) -> None:
        """Seal receipts, then write the manifest that states the seal, then drop the receipts."""
        if not (group := self.path / arrays.METADATA).exists():  # made by an older version
            files.write_json(group, arrays.GROUP)
        sealed = {"ledger": self.artifact.ledger.seal(found.texts), "looks": found.looks}
        self.artifact.forget_what_was_read()
        files.write_sealed(self.path / MANIFEST, {**manifest, **sealed})
        files.sync_folder(self.path)
        self.artifact.ledger.drop(found.units)


def has_grown(artifact: Artifact, folder: str) -> bool:
    """Return whether a run has grown an array's metadata and not yet written all of it."""
    try:
        made = files.read_sealed(_growth(artifact.path, folder), "growth")
    except AbsError:
        return False
    return made == arrays.described(artifact.path / folder)


def _growth(artifact: Path, folder: str) -> Path:
    return artifact / "claims" / f"{folder}.growth"


def store_error(error: OSError, artifact: Artifact) -> AbsError:
    """An error of the store itself, in one line."""
    where = error.filename or artifact.path
    return AbsError(
        f"{error.strerror or error}: {where}; finished units are kept; check path, permissions, "
        "space left, and run the same command again"
    )


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
