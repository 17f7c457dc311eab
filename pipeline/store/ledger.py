"""The ledger of an artifact: one receipt per finished unit, sealed with a digest of itself.

A receipt is written after the unit's data. A unit is finished as long as its receipt is whole and
the files that it names are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import Damaged, MissingInput


@dataclass(frozen=True)
class Receipt:
    """Record of a finished unit: its files, and the process that wrote them."""

    unit: str
    rows: int
    files: dict[str, tuple[int, str]]
    """Size and checksum of each file, by its path below the artifact."""
    seconds: dict[str, float]
    maker: dict[str, Any]
    """Host, process, device, batch size and the stage's own code: never part of a key."""
    finished: str
    size: int = 0
    """Images or crops of the unit, for rates; 0 in receipts of older versions."""

    @property
    def digest(self) -> str:
        """Content digest of the unit."""
        return merkle(f"{name}:{checksum}" for name, (_, checksum) in self.files.items())


@dataclass(frozen=True)
class Ledger:
    """All receipts of one artifact."""

    artifact: Path

    def write(self, receipt: Receipt) -> None:
        """Write a receipt, which makes its unit finished."""
        files.write_sealed(self.path(receipt.unit), asdict(receipt))

    def path(self, unit: str) -> Path:
        """The file of a unit's receipt."""
        return self.artifact / "ledger" / f"{unit}.json"

    def units(self) -> list[str]:
        """Names of all units that have a receipt, whole or not."""
        folder = self.artifact / "ledger"
        found = folder.iterdir() if folder.is_dir() else []
        return sorted(
            name.removesuffix(".json")
            for name in (path.name for path in found)
            if name.endswith(".json") and not name.startswith(".")
        )

    def read(self, unit: str) -> Receipt | None:
        """Read the receipt of a unit; None if it is missing or damaged."""
        try:
            stored = files.read_sealed(self.path(unit), "a receipt")
            return Receipt(**stored) if stored.get("unit") == unit else None
        except (Damaged, MissingInput, TypeError):
            return None

    def receipts(self, units: Iterable[str] | None = None) -> dict[str, Receipt]:
        """Return the receipts of finished units, among those given or among all."""
        names = self.units() if units is None else units
        found = {name: self.read(name) for name in names}
        return {name: each for name, each in found.items() if each and self._complete(each)}

    def _complete(self, receipt: Receipt) -> bool:
        """Return whether all files exist with the recorded sizes; `verify` checks their content."""
        try:
            return all(
                (self.artifact / name).stat().st_size == size
                for name, (size, _) in receipt.files.items()
            )
        except OSError:
            return False

    def content(self, receipt: Receipt, name: str) -> bytes | None:
        """Read the file that a unit wrote to a table or array; None if it is missing or changed.

        Read-only: nothing is marked as damaged.
        """
        for path, (_, checksum) in receipt.files.items():
            if path.partition("/")[0] == name:
                try:
                    content = (self.artifact / path).read_bytes()
                except OSError:
                    return None
                return content if files.checksum_of(content) == checksum else None
        return None

    def forget(self, unit: str) -> None:
        """Make a unit unfinished, so that the next run computes it again."""
        self.path(unit).unlink(missing_ok=True)


def merkle(parts: Iterable[str]) -> str:
    """Combine digests into one, independent of their order."""
    return hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=16).hexdigest()
