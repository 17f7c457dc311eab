"""The ledger of an artifact: one receipt per finished unit, sealed with a digest of itself.

A receipt is written after the unit's data. A unit is finished as long as its receipt is whole and
the files that it names are there.

    ledger/<unit>.json     a receipt of its own, while the stage is computed
    ledger/sealed-1.txt    all receipts of a finished artifact
    ledger/sealed-2.txt    the same bytes again, so that one damaged file loses no receipt

A receipt of its own is newer than a sealed one and counts in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core import files
from pipeline.core.addresses import elsewhere
from pipeline.core.checksums import Hashing, is_content
from pipeline.core.errors import Damaged, MissingInput
from pipeline.store import sealed

COPIES = ("sealed-1.txt", "sealed-2.txt")
"""Names of both files of sealed receipts."""


@dataclass(frozen=True)
class Receipt:
    """Record of a finished unit: its files, and the process that wrote them."""

    unit: str
    rows: int
    files: Mapping[str, tuple[int, str]]
    """Size and checksum of each file, by its path below the artifact."""
    seconds: dict[str, float]
    maker: dict[str, Any]
    """Host, process, device, batch size and the stage's own code: never part of a key."""
    finished: str
    size: int = 0
    """Images or crops of the unit, for rates; 0 in receipts of older versions."""
    by_method: dict[str, float] = field(default_factory=dict)
    """Seconds of each method, of scores; absent from the file where they were not measured."""

    @property
    def digest(self) -> str:
        """Content digest of the unit."""
        return merkle(f"{name}:{checksum}" for name, (_, checksum) in self.files.items())

    @property
    def text(self) -> bytes:
        """JSON in one line, as sealed receipts are stored."""
        return json.dumps(_fields(self), sort_keys=True, separators=(",", ":")).encode()


class Seal(NamedTuple):
    """Size and checksum of the sealed receipts, as a manifest states them."""

    size: int
    checksum: str


@dataclass(frozen=True)
class Ledger:
    """All receipts of one artifact."""

    artifact: Path

    @cached_property
    def folder(self) -> Path:
        """The folder of the receipts."""
        return self.artifact / "ledger"

    @cached_property
    def copies(self) -> list[Path]:
        """Both files of sealed receipts."""
        return [self.folder / name for name in COPIES]

    def path(self, unit: str) -> Path:
        """The file of a receipt of its own."""
        return self.folder / f"{unit}.json"

    def write(self, receipt: Receipt) -> None:
        """Write a receipt of its own, which makes its unit finished."""
        files.write_sealed(self.path(receipt.unit), _fields(receipt), files.rendered_by_line)

    def loose(self) -> list[str]:
        """Names of the units that have a receipt of their own, whole or not."""
        found = self.folder.iterdir() if self.folder.is_dir() else []
        return sorted(
            name.removesuffix(".json")
            for name in (path.name for path in found)
            if name.endswith(".json") and not name.startswith(".")
        )

    def units(self) -> list[str]:
        """Names of all units that have a receipt, whole or not."""
        return sorted({*self.loose(), *self.sealed()})

    def read(self, unit: str) -> Receipt | None:
        """Read the receipt of a unit; None if it is missing or damaged."""
        try:
            stored = files.read_sealed(self.path(unit), "a receipt")
            return Receipt(**stored) if stored.get("unit") == unit else None
        except MissingInput:
            text = self.sealed().get(unit)
            return _parsed(text) if text else None
        except (Damaged, TypeError):
            return None

    def whole(self, units: Iterable[str] | None = None) -> Iterator[Receipt]:
        """Yield the whole receipts, of the units given or of all; files are not looked at."""
        loose = set(self.loose())
        texts = self.sealed()  # after the folder: what was sealed meanwhile is in one or the other
        for name in sorted({*loose, *texts}) if units is None else units:
            text = None if name in loose else texts.get(name)
            receipt = _parsed(text) if text else self.read(name) if name in loose else None
            if receipt and receipt.unit == name:
                yield receipt

    def finished(self, units: Iterable[str] | None = None) -> Iterator[Receipt]:
        """Yield the receipts of finished units, among those given or among all."""
        return filter(self._complete, self.whole(units))

    def stored(self, units: Iterable[str] | None = None) -> dict[str, Receipt]:
        """Return the whole receipts by unit, as `whole` yields them."""
        return {receipt.unit: receipt for receipt in self.whole(units)}

    def receipts(self, units: Iterable[str] | None = None) -> dict[str, Receipt]:
        """Return the receipts of finished units by unit, as `finished` yields them."""
        return {receipt.unit: receipt for receipt in self.finished(units)}

    def is_finished(self, unit: str) -> bool:
        """Return whether one unit has a whole receipt, and the files that it names."""
        receipt = self.read(unit)
        return receipt is not None and self._complete(receipt)

    def _complete(self, receipt: Receipt) -> bool:
        """Return whether all files exist with the recorded sizes; `verify` checks their content."""
        return self.are_there({name: size for name, (size, _) in receipt.files.items()})

    def are_there(self, sizes: Mapping[str, int]) -> bool:
        """Return whether files below the artifact exist with the given sizes."""
        try:
            return all((self.artifact / name).stat().st_size == n for name, n in sizes.items())
        except OSError:
            return False

    def content(self, receipt: Receipt, name: str) -> bytes | None:
        """Read the file that a unit wrote to a table or array; None if it is missing or changed.

        Read-only: nothing is marked as damaged.
        """
        for path, (_, checksum) in receipt.files.items():
            if path.partition("/")[0] == name:
                file = self.artifact / path
                try:
                    content = file.read_bytes()
                except OSError:
                    return None
                return content if is_content(content, checksum, file) else None
        return None

    # -- sealing ----------------------------------------------------------------------------

    def sealed(self) -> Mapping[str, bytes]:
        """Return the sealed receipts as JSON by unit: those that a whole line of any copy holds."""
        found: dict[str, bytes] = {}
        for copy in self.copies:
            content = _content_of(copy)
            if content.whole:
                return content.receipts
            found = {**content.receipts, **found}
        return found

    def has_seal(self, seal: Seal) -> bool:
        """Return whether both copies are there in the size of a seal."""
        return self.are_there({f"ledger/{name}": seal.size for name in COPIES})

    def seal(self, texts: Mapping[str, bytes]) -> Seal:
        """Write receipts, given as JSON by unit, to both copies; those of their own stay until
        `drop`. Hold the lock.
        """
        for copy in self.copies:
            with files.replacing(copy) as file:
                hashing = Hashing(file)
                for line in sealed.lines(texts):
                    hashing.write(line)
        files.sync_folder(self.folder)
        return Seal(*hashing.content)

    def drop(self, units: Iterable[str]) -> None:
        """Remove receipts of their own, once they are sealed and the manifest states the seal."""
        for unit in units:
            self.path(unit).unlink(missing_ok=True)

    def mend(self, copy: str) -> bool:
        """Write a damaged copy again from the other one; False if no receipt was sealed."""
        with self.locked():
            texts = self.sealed()
            if texts:
                files.write_atomic(self.folder / copy, *sealed.lines(texts))
        return bool(texts)

    def forget(self, units: Iterable[str]) -> None:
        """Make units unfinished, so that the next run computes them again."""
        gone = set(units)
        if not gone:
            return
        with self.locked():
            self.drop(gone)
            if any(copy.exists() for copy in self.copies):  # damaged ones too: a size may be right
                texts = self.sealed()
                self.seal({name: t for name, t in texts.items() if name not in gone})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger, so that no other process seals or forgets receipts meanwhile."""
        claims = self.artifact / "claims"
        claims.mkdir(exist_ok=True)
        with files.locked(claims / "ledger.lock"):
            yield


class _Content(NamedTuple):
    """Content of a file of sealed receipts."""

    whole: bool
    receipts: Mapping[str, bytes]


def _content_of(copy: Path) -> _Content:
    """Read a file of sealed receipts; one that is missing is not whole and holds none."""
    try:
        if elsewhere(copy):
            return _parse(copy)
        stat = copy.stat()
        return _parse_version(copy, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    except OSError:
        return _Content(False, {})


@lru_cache(maxsize=2)
def _parse_version(copy: Path, version: tuple[int, ...]) -> _Content:
    """Parse a local file once per version: it is replaced, never written to."""
    return _parse(copy)


def _parse(copy: Path) -> _Content:
    content = copy.read_bytes()
    return _Content(sealed.is_whole(content), sealed.receipts(content))


def _fields(receipt: Receipt) -> dict[str, Any]:
    return {name: value for name, value in vars(receipt).items() if name != "by_method" or value}


def _parsed(text: bytes) -> Receipt | None:
    try:
        return Receipt(**json.loads(text))
    except (ValueError, TypeError):
        return None


def merkle(parts: Iterable[str]) -> str:
    """Combine digests into one, independent of their order."""
    return hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=16).hexdigest()
