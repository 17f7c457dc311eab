"""The artifact store: `<root>/<dataset>/<stage>/<key>/`.

An artifact is finished when its `manifest.json` names every unit that is asked for. A unit is
finished when its file in `ledger/` exists; that file is written after the unit's data, and the
manifest after all of them. Readers refuse an artifact that is not finished, so nothing ever
reads a hole. Units are idempotent and write only chunks of their own.

    identity.json    what the key was made of, in clear
    ledger/          one receipt per finished unit: files with digests, rows, seconds
    failures/        one traceback per unit that raised; gone once the unit succeeds
    claims/          reserved for processes that share a stage
    <name>.parquet   a table: one file, or a folder with one file per unit
    <name>.zarr      an array: one chunk per unit, uncompressed, unwritten places NaN
    manifest.json    the units, their digests and where they come from; written last
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.errors import AbsError, MissingInput
from pipeline.identity import SCHEMA
from pipeline.stage import ArraySpec, Stage, Unit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import zarr

    from pipeline.stage import Output

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Store:
    """All artifacts of one dataset."""

    root: Path
    dataset: str
    options: str = ""
    """The options that select these settings, for commands that messages suggest."""

    @property
    def folder(self) -> Path:
        """`<root>/<dataset>`."""
        return self.root / self.dataset

    def artifact(self, stage: Stage) -> Artifact:
        """The artifact of `stage`, finished or not."""
        return Artifact(self.folder / stage.name / stage.key, stage.name)

    def open(self, stage: Stage) -> Artifact:
        """The finished artifact of `stage`; MissingInput names the command that makes it."""
        artifact = self.artifact(stage)
        missing = artifact.missing(stage.units(self))
        if missing is not None:
            raise MissingInput(
                f"{stage.name} of {self.dataset!r} is {missing}; run: "
                f"abs {stage.name.replace('-', ' ')} {self.options}"
            )
        return artifact

    def rows(self, stage: Stage) -> int:
        """Rows of a finished artifact."""
        return int(self.open(stage).manifest["rows"])


@dataclass(frozen=True)
class Artifact:
    """One folder of the store."""

    path: Path
    stage: str
    _opened: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Arrays that units are written to."""

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest of a finished artifact; MissingInput if there is none."""
        path = self.path / MANIFEST
        try:
            manifest = files.read_json(path, f"the manifest of {self.stage}")
        except MissingInput:
            raise
        except AbsError:
            manifest = None
        if not isinstance(manifest, dict) or "units" not in manifest:
            raise AbsError(f"{path} is damaged; remove {self.path} to compute it again")
        if manifest.get("schema") != SCHEMA:
            raise AbsError(
                f"{self.path} was written with layout {manifest.get('schema')}, this program "
                f"reads {SCHEMA}; remove the folder to compute it again"
            )
        return manifest

    def missing(self, units: list[Unit]) -> str | None:
        """None if finished for `units`, else how far it is: `missing`, `partial (3 of 8 units)`."""
        if (self.path / MANIFEST).exists() and all(u.name in self.manifest["units"] for u in units):
            return None
        done = len(self.finished(units))
        return f"partial ({done} of {len(units)} units)" if done else "missing"

    def digest(self, units: Iterable[Unit]) -> str:
        """Content digest of those units, whatever others the artifact has."""
        known = self.manifest["units"]
        return _merkle(f"{unit.name}:{known[unit.name]}" for unit in units)

    def finished(self, units: Iterable[Unit]) -> set[str]:
        """Names of those of `units` that have a receipt."""
        ledger = self.path / "ledger"
        present = set(os.listdir(ledger)) if ledger.is_dir() else set()
        return {u.name for u in units if f"{u.name}.json" in present}

    # -- reading ----------------------------------------------------------------------------

    def table(
        self,
        name: str,
        unit: Unit | None = None,
        *,
        columns: list[str] | None = None,
        finished: bool = True,
    ) -> pd.DataFrame:
        """A whole table, or the part that one unit wrote; refused unless the artifact is finished.

        Only a stage that looks at its own units before they are finalised sets `finished` to False.
        """
        import pandas as pd

        if finished:
            _ = self.manifest
        path = self.path / f"{name}.parquet"
        return pd.read_parquet(path / f"{unit.name}.parquet" if unit else path, columns=columns)

    def array(self, name: str) -> zarr.Array[Any]:
        """An array of a finished artifact, lazily."""
        import zarr

        _ = self.manifest
        return zarr.open_array(self.path / f"{name}.zarr", mode="r")

    # -- writing ----------------------------------------------------------------------------

    def begin(self, identity: dict[str, Any]) -> None:
        """Make the folder and say in clear what its key stands for."""
        for folder in ("ledger", "claims"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        files.write_json(self.path / "identity.json", identity)

    def create(self, spec: ArraySpec) -> None:
        """Create an array, or let an existing one grow to `spec.shape`; it never shrinks."""
        import zarr

        path = self.path / f"{spec.name}.zarr"
        self._opened.pop(spec.name, None)
        with files.locked(self.path / "claims" / f"{spec.name}.lock"):
            if not (path / "zarr.json").exists():
                zarr.create_array(
                    path,
                    shape=spec.shape,
                    chunks=spec.chunks,
                    dtype=spec.dtype,
                    compressors=None,
                    fill_value=float("nan"),
                    dimension_names=spec.dims,
                    attributes=dict(spec.attributes),
                )
                return
            array = zarr.open_array(path, mode="r+")
            if any(have < need for have, need in zip(array.shape, spec.shape, strict=True)):
                array.resize(tuple(map(max, array.shape, spec.shape)))

    def write(self, unit: Unit, outputs: dict[str, Output]) -> list[Path]:
        """Write a unit's outputs; the files they went to."""
        import pandas as pd

        written = []
        for name, value in outputs.items():
            if isinstance(value, pd.DataFrame):
                written.append(self._write_table(unit, name, value))
            else:
                written.append(self._write_chunk(unit, name, value))
        return written

    def _write_table(self, unit: Unit, name: str, frame: pd.DataFrame) -> Path:
        path = self.path / f"{name}.parquet"
        if unit.name != "all":
            path.mkdir(exist_ok=True)
            path = path / f"{unit.name}.parquet"
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        frame.to_parquet(temporary, index=False)
        os.replace(temporary, path)
        return path

    def _write_chunk(self, unit: Unit, name: str, value: Any) -> Path:
        import zarr

        if not _all_finite(value):
            raise AbsError(
                f"{self.stage}: unit {unit.name} has values that are no numbers; the weights or "
                f"what was stored before in {self.path.parent.parent} are damaged"
            )
        array = self._opened.get(name)
        if array is None:
            # Without it every value would be compared with the fill value first.
            with zarr.config.set({"array.write_empty_chunks": True}):
                array = zarr.open_array(self.path / f"{name}.zarr", mode="r+")
            self._opened[name] = array
        where = (unit.rows,) if unit.crops is None else (unit.rows, unit.crops)
        array[where] = value
        starts = [part.start // chunk for part, chunk in zip(where, array.chunks, strict=False)]
        starts += [0] * (array.ndim - len(starts))
        return self.path.joinpath(f"{name}.zarr", "c", *map(str, starts))

    def commit(self, unit: Unit, rows: int, written: list[Path], seconds: dict[str, float]) -> None:
        """Flush the unit's files, then write its receipt: from here on it is finished."""
        sums = {}
        for path in written:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            sums[str(path.relative_to(self.path))] = [path.stat().st_size, files.checksum(path)]
        receipt = {
            "unit": unit.name,
            "rows": rows,
            "files": sums,
            "digest": _merkle(f"{name}:{entry[1]}" for name, entry in sums.items()),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "finished": now(),
        }
        files.write_json(self.path / "ledger" / f"{unit.name}.json", receipt)
        (self.path / "failures" / f"{unit.name}.txt").unlink(missing_ok=True)

    def fail(self, unit: Unit, traceback: str) -> None:
        """Record why a unit raised. It stays unfinished and is tried again by the next run."""
        files.write_atomic(self.path / "failures" / f"{unit.name}.txt", traceback.encode())

    def finalise(self, provenance: dict[str, Any]) -> None:
        """Write the manifest over every unit in the ledger. The last write of a stage."""
        ledger = sorted((self.path / "ledger").glob("*.json"))
        receipts = [files.read_json(path, "a receipt") for path in ledger]
        units = {r["unit"]: r["digest"] for r in receipts}
        seconds: dict[str, float] = {}
        for receipt in receipts:
            for name, value in receipt["seconds"].items():
                seconds[name] = round(seconds.get(name, 0.0) + value, 4)
        manifest = {
            "schema": SCHEMA,
            "stage": self.stage,
            "key": self.path.name,
            "digest": _merkle(f"{name}:{value}" for name, value in units.items()),
            "units": units,
            "rows": sum(r["rows"] for r in receipts),
            "bytes": sum(size for r in receipts for size, _ in r["files"].values()),
            "seconds": seconds,
            "finished": now(),
            **provenance,
        }
        self.__dict__.pop("manifest", None)
        files.write_json(self.path / MANIFEST, manifest)

    def remove(self) -> None:
        """Take the artifact out of the store in one step, then delete it."""
        if not self.path.exists():
            return
        self._opened.clear()
        trash = self.path.with_name(f".trash-{self.path.name}-{uuid.uuid4().hex[:8]}")
        os.replace(self.path, trash)
        shutil.rmtree(trash, ignore_errors=True)
        self.__dict__.pop("manifest", None)


def _all_finite(values: np.ndarray) -> bool:
    import numpy as np

    if values.dtype == np.float16:  # by their bits, which are in order: numpy would convert each
        positive, negative = values.view(np.int16), values.view(np.uint16)
        return bool(positive.max(initial=0) < 0x7C00 and negative.max(initial=0) < 0xFC00)
    return bool(np.isfinite(values).all())


def _merkle(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=16).hexdigest()


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
