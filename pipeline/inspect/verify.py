"""Verify that the store holds what was written: every byte is covered by a digest.

    identity.json    its digest is the artifact's key
    manifest.json    sealed; names the units, holds the metadata of arrays
    ledger/          sealed; the size and checksum of every file of every unit

What is damaged is made unfinished, so that the next run computes just that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.checksums import is_file
from pipeline.core.errors import AbsError, Damaged, MissingInput
from pipeline.core.hashing import SCHEMA
from pipeline.core.threads import READERS, prefetch, readers
from pipeline.store import arrays, sealed
from pipeline.store.artifact import IDENTITY, MANIFEST, Artifact
from pipeline.store.claims import living
from pipeline.store.ledger import COPIES, Receipt
from pipeline.store.store import RUNS, Store
from pipeline.store.writer import has_grown

if TYPE_CHECKING:
    from pipeline.core.progress import Reporter

MEGABYTE = 1 << 20
NOW = {"schema": SCHEMA}
"""Stand-in for a damaged identity."""


@dataclass(frozen=True)
class Damage:
    """One file that differs from what was written."""

    artifact: Artifact
    file: str
    """Path of the file below the artifact's folder."""
    what: str
    unit: str | None = None
    """The unit to compute again; None if no unit is lost."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        path = str(self.artifact.path)
        return {"artifact": path, "unit": self.unit, "file": self.file, "what": self.what}


def damages(artifact: Artifact, seen: Callable[[int], None]) -> Iterator[Damage]:
    """Yield all damage of one artifact, finished or not; `seen` is called with bytes read.

    The caller leaves out artifacts of another store layout.
    """
    manifest = None
    try:
        manifest = files.read_sealed(artifact.path / MANIFEST, "a manifest")
    except MissingInput:
        pass
    except Damaged:
        yield Damage(artifact, MANIFEST, "is not what was written")
    if artifact.identity is None:
        yield Damage(artifact, IDENTITY, "does not give the artifact's key")
    ledger = artifact.ledger
    receipts = ledger.stored()
    for unit in ledger.loose():
        if unit not in receipts:
            yield Damage(artifact, _receipt(unit), "is not what was written", unit)
    yield from _copies(artifact, manifest)
    yield from _contents(artifact, list(receipts.values()), seen)
    if manifest is not None:
        yield from _disagreements(artifact, manifest, receipts)
    yield from _arrays(artifact, manifest)


def _receipt(unit: str) -> str:
    return f"ledger/{unit}.json"


def _copies(artifact: Artifact, manifest: dict[str, Any] | None) -> Iterator[Damage]:
    """Yield each file of sealed receipts that has changed, or lacks what the other one has.

    No unit is lost with it. A process that was killed while it sealed more units has written the
    first copy alone: then the second lacks nothing that the manifest states.
    """
    known = artifact.ledger.sealed().keys() & set(manifest["units"] if manifest else ())
    for copy in artifact.ledger.copies:
        try:
            content = copy.read_bytes()
        except OSError:
            content = None
        name = str(copy.relative_to(artifact.path))
        if content is None:
            if known:
                yield Damage(artifact, name, "is gone")
        elif not sealed.is_whole(content):
            yield Damage(artifact, name, "is not what was written")
        elif not known <= sealed.receipts(content).keys():
            yield Damage(artifact, name, "lacks receipts that the other copy has")


def _contents(
    artifact: Artifact, receipts: list[Receipt], seen: Callable[[int], None]
) -> Iterator[Damage]:
    named = [
        (receipt, name, *entry) for receipt in receipts for name, entry in receipt.files.items()
    ]

    def wrong(item: tuple[Receipt, str, int, str]) -> str:
        _, name, size, checksum = item
        path = artifact.path / name
        try:
            if path.stat().st_size != size:
                return f"has {path.stat().st_size} bytes, not {size}"
            return "" if is_file(path, checksum) else "is not what was written"
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    for (receipt, name, size, _), found in prefetch(readers(), wrong, named, depth=2 * READERS):
        if what := found.result():
            yield Damage(artifact, name, what, receipt.unit)
        seen(size)


def _disagreements(
    artifact: Artifact, manifest: dict[str, Any], receipts: dict[str, Receipt]
) -> Iterator[Damage]:
    if manifest.get("key") != artifact.path.name or manifest.get("stage") != artifact.stage:
        yield Damage(artifact, MANIFEST, "is that of another artifact")
        return
    for unit, stated in manifest["units"].items():
        if unit not in receipts:
            if not artifact.ledger.path(unit).exists():
                yield Damage(artifact, _receipt(unit), "is gone", unit)
        elif receipts[unit].digest != stated:
            yield Damage(artifact, MANIFEST, f"does not agree with the ledger on unit {unit}")


def _arrays(artifact: Artifact, manifest: dict[str, Any] | None) -> Iterator[Damage]:
    group = artifact.path / arrays.METADATA
    if group.exists():
        if group.read_bytes() != files.rendered(arrays.GROUP):
            yield Damage(artifact, arrays.METADATA, "is not what was written")
    elif manifest and "ledger" in manifest:  # older versions wrote none
        yield Damage(artifact, arrays.METADATA, "is gone")
    stated = manifest["arrays"] if manifest else {}
    for folder in sorted({*stated, *(path.name for path in artifact.path.glob("*.zarr"))}):
        found = arrays.described(artifact.path / folder)
        if found is None or (
            manifest and found != stated.get(folder) and not has_grown(artifact, folder)
        ):
            yield Damage(artifact, f"{folder}/{arrays.METADATA}", "is not what was written")


def mark(found: list[Damage]) -> list[str]:
    """Mark damaged units as unfinished; restore files whose content a manifest records.

    Returns why some could not be marked: they are in use, or cannot be written.
    """
    problems = []
    for artifact in {damage.artifact.path: damage.artifact for damage in found}.values():
        here = [damage for damage in found if damage.artifact.path == artifact.path]
        if artifact.stage == RUNS:
            problems.append(f"{artifact.path}: run its settings again, or remove the folder")
            continue
        if claims := living(artifact.path / "claims"):
            problems.append(f"{artifact.path}: in use by {claims[0].who}; verify it again later")
            continue
        try:
            restored = _restored(artifact, {damage.file for damage in here})
            if lost := [damage for damage in here if damage.file not in restored]:
                artifact.forget(damage.unit for damage in lost if damage.unit)
        except OSError as error:
            problems.append(f"{artifact.path}: cannot be marked ({error.strerror})")
    return problems


def _restored(artifact: Artifact, damaged: set[str]) -> set[str]:
    """Restore damaged files whose content an undamaged manifest records; return their names."""
    mended = {f"ledger/{copy}" for copy in COPIES if f"ledger/{copy}" in damaged}
    mended = {name for name in mended if artifact.ledger.mend(name.removeprefix("ledger/"))}
    try:
        manifest = artifact.manifest
    except AbsError:
        return mended
    known = {f"{name}/{arrays.METADATA}": value for name, value in manifest["arrays"].items()}
    known |= {IDENTITY: manifest["identity"], arrays.METADATA: arrays.GROUP}
    restored = damaged & known.keys()
    for name in restored:
        (artifact.path / name).parent.mkdir(exist_ok=True)
        files.write_json(artifact.path / name, known[name])
    return restored | mended


# --- Of a whole store -------------------------------------------------------------------------


@dataclass
class VerifyReport:
    """Result of a verification: counts, damage, and units computed again."""

    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    damage: list[Damage] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    """Artifacts of another store layout, which are not verified."""
    again: list[str] = field(default_factory=list)
    """Units that were computed again."""
    unmarked: list[str] = field(default_factory=list)
    """Reasons why some damage could not be marked."""
    missing: list[str] = field(default_factory=list)
    """Stages that are not finished for their current inputs, so that no unit was computed again."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return {**vars(self), "damage": [damage.as_dict() for damage in self.damage]}

    def look(self, stores: list[Store], reporter: Reporter) -> None:
        """Compare every file of every artifact with its digest."""
        found = [artifact for store in stores for artifact in store.artifacts()]
        older = [artifact for artifact in found if (artifact.identity or NOW)["schema"] != SCHEMA]
        self.older += [str(artifact.path) for artifact in older]
        readable = [artifact for artifact in found if artifact not in older]
        size = sum(sum(_sizes(artifact)) for artifact in readable) // MEGABYTE
        with reporter.stage("verify", size, "MB") as advance:
            for artifact in readable:

                def seen(count: int) -> None:
                    self.files, self.bytes = self.files + 1, self.bytes + count
                    advance(self.bytes // MEGABYTE - (self.bytes - count) // MEGABYTE)

                folder = _inode(artifact.path)
                damaged = list(damages(artifact, seen))
                # One that was removed or replaced meanwhile is another process's affair.
                self.damage += damaged if folder and _inode(artifact.path) == folder else []
                self.artifacts += 1
            for store in stores:
                self.damage += _records(store)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _records(store: Store) -> Iterator[Damage]:
    """Yield damaged run records; `abs gc` refuses to run while there are any."""
    for path in sorted(store.folder.glob(f"{RUNS}/*/run.json")):
        try:
            files.read_sealed(path, "a record")
        except MissingInput:
            continue
        except Damaged:
            yield Damage(Artifact(path.parent, RUNS), path.name, "is not what was written")


def _sizes(artifact: Artifact) -> Iterator[int]:
    for receipt in artifact.ledger.stored().values():
        yield from (size for size, _ in receipt.files.values())


# --- By computing again -----------------------------------------------------------------------
