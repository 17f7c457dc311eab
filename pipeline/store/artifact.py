"""One artifact: a folder of the store, `<root>/<dataset>/<stage>/<key>/`.

An artifact is finished when its `manifest.json` names every unit that is asked for. A unit is
finished when its receipt in `ledger/` is there; that is written after the unit's data, and the
manifest after all of them. Receipts are then sealed in one file, so that a finished artifact is
looked at in constant time. Readers refuse an artifact that is not finished, and a file whose bytes
are not those of its receipt, so nothing ever reads a hole or what a disk made of it. A unit that is
damaged later loses its receipt; the manifest stays, so that the others can be read until the next
run. Units are idempotent and write only files of their own; `pipeline.store.writer` writes them.

    identity.json    what the key was made of, in clear
    ledger/          one receipt per finished unit: files with checksums, rows, seconds, maker;
                     those of a finished artifact together in one file, kept twice
    failures/        one traceback per unit that raised; gone once the unit succeeds
    claims/          one file per unit that a process is at, with its heartbeat
    <name>.parquet   a table: one file, or a folder with one file per unit
    zarr.json        metadata of a Zarr group, so that xarray opens the folder with its arrays
    <name>.zarr      an array: one chunk per unit, uncompressed, unwritten places NaN
    manifest.json    the units, their digests and where they come from; written last
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pipeline.core import files
from pipeline.core.addresses import elsewhere
from pipeline.core.checksums import is_content, is_file
from pipeline.core.errors import AbsError, Damaged, MissingInput
from pipeline.core.hashing import SCHEMA, digest
from pipeline.core.threads import READERS, prefetch, readers
from pipeline.store import arrays
from pipeline.store.arrays import StoredArray
from pipeline.store.ledger import Ledger, Seal, merkle
from pipeline.store.units import Unit, in_order, names_of

if TYPE_CHECKING:
    import pandas as pd


IDENTITY, MANIFEST = "identity.json", "manifest.json"
TRASH = ".trash-"
"""Prefix of folders that are about to be deleted."""
PIECE = 64
"""Files of a table that are read at once: Arrow holds more for each open file than its rows."""


class _File(NamedTuple):
    """Unit and checksum of a file by its receipt, which itself takes ten times the memory."""

    unit: str
    checksum: str


@dataclass(frozen=True)
class Artifact:
    """One folder of the store."""

    path: Path
    stage: str
    options: str = field(default="", compare=False)
    """The options of `abs run` that make it, for messages."""
    read_only: bool = field(default=False, compare=False)
    """True if reading leaves damage as it is, as it does at an address."""
    _checked: set[str] = field(default_factory=set, compare=False, repr=False)
    """Files that were verified against their receipts."""
    _known: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Files that receipts name, once these have been read."""

    @cached_property
    def ledger(self) -> Ledger:
        """The receipts."""
        return Ledger(self.path)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest of a finished artifact; MissingInput if there is none, Damaged if it is."""
        what = f"the manifest of {self.stage}"
        manifest = _parsed(files.sealed_bytes(self.path / MANIFEST, what))
        if (manifest.get("stage"), manifest.get("key")) != (self.stage, self.path.name):
            raise Damaged(f"{self.path / MANIFEST} is that of another artifact")
        if manifest.get("schema") != SCHEMA:
            raise AbsError(
                f"{self.path} was written with layout {manifest.get('schema')}, this program "
                f"reads {SCHEMA}; remove the folder to compute it again"
            )
        return manifest

    @property
    def identity(self) -> dict[str, Any] | None:
        """Stored content of the key; None if it is missing or damaged."""
        path = self.path / IDENTITY
        try:
            found = files.read_json(path, "an identity")
            whole = digest(found) == self.path.name and files.rendered(found) == path.read_bytes()
        except (AbsError, OSError, TypeError):
            return None
        return found if whole else None

    def missing(self, units: Sequence[Unit]) -> str | None:
        """Return None if finished for `units`, else `missing`, `partial (3 of 8 units)`, `damaged`.

        Looks at each unit's receipt and at its files, whether they are there in their sizes. Of a
        sealed artifact it looks at LOOKS files, spread over all, and at the others if one is not
        as it was.
        """
        names = names_of(units)
        if self._is_sealed(names) and self.ledger.are_there(self.manifest["looks"]):
            return None
        found = {receipt.unit: receipt.digest for receipt in self.ledger.finished(names)}
        state = "partial"
        try:
            stated = self.manifest["units"]
            if all(name in stated for name in names):
                if all(found.get(name) == stated[name] for name in names):
                    return None
                state = "damaged"
        except MissingInput:
            pass
        except Damaged:
            state = "damaged"
        if state == "partial" and not found:
            return "missing"
        return f"{state} ({len(found)} of {len(units)} units)"

    def is_stated(self, units: Iterable[Unit]) -> bool:
        """Return whether the manifest names `units` and none has lost its receipt.

        Files are not looked at: readers compare them.
        """
        names = names_of(units)
        if self._is_sealed(names):
            return True
        try:
            known = self.manifest["units"].keys() & set(self.ledger.units())
        except (MissingInput, Damaged):
            return False
        return all(name in known for name in names)

    def _is_sealed(self, units: Iterable[str]) -> bool:
        """Return whether the manifest states `units` and the seal that their receipts have now.

        Not while a unit that it states has a receipt of its own, which may be another one.
        """
        try:
            stated, seal = self.manifest["units"].keys(), self.manifest.get("ledger")
        except (MissingInput, Damaged):
            return False
        return (
            seal is not None
            and self.ledger.has_seal(Seal(*seal))
            and stated >= set(units)
            and stated.isdisjoint(self.ledger.loose())
        )

    def digest(self, units: Iterable[Unit]) -> str:
        """Content digest of those units, whatever others the artifact has."""
        known = self.manifest["units"]
        return merkle(f"{name}:{known[name]}" for name in names_of(units))

    def makers(self) -> list[dict[str, Any]]:
        """Return the makers of all units with a receipt, as the manifest states them if sealed."""
        if not self._is_sealed([]):
            return [receipt.maker for receipt in self.ledger.whole()]
        loose = filter(None, map(self.ledger.read, self.ledger.loose()))
        return [*self.manifest["makers"], *(receipt.maker for receipt in loose)]

    def finished(self, units: Iterable[Unit]) -> set[str]:
        """Names of those of `units` that have a receipt, and the files it names."""
        return {receipt.unit for receipt in self.ledger.finished(names_of(units))}

    def unfinished(self, units: Sequence[Unit]) -> list[Unit]:
        """Return the units that are not finished."""
        if self.missing(units) is None:
            return []
        done = self.finished(units)
        return [unit for unit in units if unit.name not in done]

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
        Damaged if its bytes are not those that were written.
        """
        import pandas as pd

        parts = self._parts(name, unit, finished)
        if len(parts) <= PIECE:
            return self._frame(parts, columns)
        return pd.concat(self._frames(parts, columns), ignore_index=True)

    def pieces(
        self, name: str, columns: list[str] | None = None, *, finished: bool = True
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of a table in order, those of PIECE files at a time.

        Errors are those of `table`, which holds all rows in memory at once.
        """
        return self._frames(self._parts(name, None, finished), columns)

    def _frames(self, parts: list[str], columns: list[str] | None) -> Iterator[pd.DataFrame]:
        """Yield the rows of files of a table in order, those of PIECE files at a time."""
        pieces = (parts[start : start + PIECE] for start in range(0, len(parts), PIECE))
        return (self._frame(piece, columns) for piece in pieces)

    def _parts(self, name: str, unit: Unit | None, finished: bool) -> list[str]:
        """Return the files of a table, or of the part that one unit wrote, in order."""
        whole = f"{name}.parquet"
        written = self._written(finished)
        if finished:
            for lost in self.manifest["units"].keys() - {one.unit for one in written.values()}:
                self.damaged(f"the receipt of unit {lost}", *self._lost())
        parts = [file for file in written if file.partition("/")[0] == whole]
        if not finished and not parts:
            raise MissingInput(f"{self.stage}: no unit with {name} is finished")
        if not parts and whole not in written:
            raise AbsError(f"{self.path}: {self.stage} has no table {name!r}")
        return [f"{whole}/{unit.name}.parquet"] if unit else in_order(parts) or [whole]

    def _frame(self, parts: list[str], columns: list[str] | None) -> pd.DataFrame:
        """Read files of a table; Damaged if their bytes are not those that were written."""
        import pandas as pd

        self._check(parts)
        system = elsewhere(self.path)
        places: list[Any] = [self.path / part for part in parts]
        paths: Any = [place.path for place in places] if system else places  # as pandas takes them
        return pd.read_parquet(paths, columns=columns, filesystem=system)

    def array(self, name: str, dtype: str | None = None) -> StoredArray:
        """An array of a finished artifact, read lazily in `dtype`; Damaged where it has changed.

        Reading repairs and marks: changed metadata is restored from the manifest, and a unit with
        a changed or missing chunk loses its receipt, so that the next run computes it again.
        """
        folder = f"{name}.zarr"
        if folder not in self.manifest["arrays"]:
            raise AbsError(f"{self.path}: {self.stage} has no array {name!r}")
        wrote = self.manifest["arrays"][folder]
        if not arrays.same_but_longer(arrays.described(self.path / folder), wrote):
            metadata = f"{folder}/{arrays.METADATA}"
            if self.read_only or elsewhere(self.path):
                self.damaged(metadata)
            try:
                arrays.describe(self.path / folder, wrote)
            except OSError as error:
                self.damaged(f"{metadata} ({error.strerror})")

        def read(chunk: str, into: memoryview) -> None:
            self._read(f"{folder}/{chunk}", into)

        return StoredArray(wrote, read, dtype)

    def _written(self, finished: bool = True) -> dict[str, _File]:
        """The files that receipts name: those of the manifest's units, or of all finished ones.

        Of the manifest's units, those whose receipt is lost or another one are left out.
        """
        if "files" not in self._known:
            stated = self.manifest["units"] if finished else None
            chosen = self.ledger.finished() if stated is None else self.ledger.whole(stated)
            self._known["files"] = {
                name: _File(receipt.unit, checksum)
                for receipt in chosen
                if stated is None or receipt.digest == stated[receipt.unit]
                for name, (_, checksum) in receipt.files.items()
            }
        known: dict[str, _File] = self._known["files"]
        return known

    def _read(self, name: str, into: memoryview) -> None:
        """Read a file into a buffer of its size; compare it with its receipt the first time."""
        written = self._file(name)
        try:
            with (self.path / name).open("rb") as file:
                whole = file.readinto(into) == len(into) and not file.read(1)
        except OSError:
            whole = False
        if whole and name not in self._checked:
            whole = is_content(into, written.checksum, self.path / name)
        if not whole:
            self.damaged(name, written.unit)
        self._checked.add(name)

    def _file(self, name: str) -> _File:
        """Return unit and checksum of a file; Damaged if no receipt names it."""
        if name not in self._written():
            self.forget_what_was_read()  # a unit that was lost may have been computed again
        return self._written().get(name) or self.damaged(name, *self._lost())

    def _lost(self) -> set[str]:
        """Names of the units that the manifest states and whose receipt is lost or another one.

        Those with a receipt of their own are left out: they were computed again.
        """
        stated: dict[str, str] = self.manifest["units"]
        known = {written.unit for written in self._written().values()}
        return stated.keys() - known - set(self.ledger.loose())

    def _check(self, names: Iterable[str]) -> None:
        """Compare files with their receipts; each is read once as long as this object lives."""
        unseen = {name: self._file(name) for name in names if name not in self._checked}

        def is_whole(file: tuple[str, _File]) -> bool:
            name, written = file
            try:
                return is_file(self.path / name, written.checksum)
            except OSError:
                return False

        for (name, written), found in prefetch(readers(), is_whole, unseen.items(), READERS):
            if not found.result():
                self.damaged(name, written.unit)
        self._checked.update(unseen)

    def damaged(self, name: str, *units: str) -> NoReturn:
        """Forget the units that are lost with a file, so that the next run makes them again; raise.

        The manifest stays: what else it names can be read.
        """
        message = f"{self.path}: {name} is not what was written"
        if elsewhere(self.path):
            raise Damaged(f"{message}; copy it once more")
        if self.read_only:
            raise Damaged(f"{message}; abs verify marks what is lost, abs run computes it again")
        try:
            self.ledger.forget(units)
        except OSError as error:
            message = f"{message}, and cannot be marked as such ({error.strerror})"
        self.forget_what_was_read()
        again = f"abs run {self.options}" if self.options else "the same command"
        raise Damaged(f"{message}; what is lost is computed again by {again}")

    def forget(self, units: Iterable[str]) -> None:
        """Make units unfinished, and so the artifact: the next run computes them again."""
        self.ledger.forget(units)
        (self.path / MANIFEST).unlink(missing_ok=True)
        self.forget_what_was_read()

    def forget_what_was_read(self) -> None:
        """Read manifest and receipts anew from here on, as the folder has changed."""
        self.__dict__.pop("manifest", None)
        self._known.clear()
        self._checked.clear()

    def remove(self) -> None:
        """Take the artifact out of the store in one step, then delete it."""
        if not self.path.exists():
            return
        files.remove(put_aside(self.path))
        self.forget_what_was_read()


@lru_cache(maxsize=32)
def _parsed(manifest: bytes) -> dict[str, Any]:
    """Parse a manifest once: a command asks for those of large artifacts many times."""
    return files.parse_sealed(manifest)


def put_aside(path: Path) -> Path:
    """Take a folder out of the store in one step; where it lies until it is deleted."""
    trash = path.with_name(f"{TRASH}{path.name}-{uuid.uuid4().hex[:8]}")
    os.replace(path, trash)
    return trash
