"""Summary of the units of an artifact for its manifest, gathered from receipts one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.store.ledger import Receipt, merkle

LOOKS = 20
"""Most files of a finished artifact that are looked at to see whether it is all there."""


class Summary:
    """Sums over receipts, and their JSON, which takes a tenth of the memory of receipts."""

    def __init__(self, receipts: Iterable[Receipt]) -> None:
        self.texts: dict[str, bytes] = {}
        """Receipts as JSON, by unit."""
        self.units: dict[str, str] = {}
        """Content digest of each unit."""
        self._sizes: dict[str, int] = {}
        self._rows = 0
        self._seconds: Counter[str] = Counter()
        self._makers: dict[str, dict[str, Any]] = {}
        for receipt in receipts:
            self._add(receipt)

    def _add(self, receipt: Receipt) -> None:
        self.texts[receipt.unit] = receipt.text
        self.units[receipt.unit] = receipt.digest
        self._sizes.update((name, size) for name, (size, _) in receipt.files.items())
        self._rows += receipt.rows
        self._seconds.update(receipt.seconds)
        kind = {name: value for name, value in receipt.maker.items() if name != "pid"}
        entry = self._makers.setdefault(repr(sorted(kind.items())), {**kind, "units": 0})
        entry["units"] += 1

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the manifest. Makers are listed once each, with their units, without pid."""
        return {
            "digest": merkle(f"{name}:{value}" for name, value in self.units.items()),
            "units": self.units,
            "rows": self._rows,
            "bytes": sum(self._sizes.values()),
            "seconds": {name: round(value, 4) for name, value in self._seconds.items()},
            "makers": list(self._makers.values()),
        }

    @property
    def chunks(self) -> dict[str, list[str]]:
        """Files of each array, by its folder."""
        found: dict[str, list[str]] = {}
        for name in self._sizes:
            folder, _, chunk = name.partition("/")
            if folder.endswith(".zarr"):
                found.setdefault(folder, []).append(chunk)
        return found

    @property
    def looks(self) -> dict[str, int]:
        """Sizes of at most LOOKS files, at even distances in the order of units."""
        names, count = list(self._sizes), min(LOOKS, len(self._sizes))
        chosen = (names[i * (len(names) - 1) // max(count - 1, 1)] for i in range(count))
        return {name: self._sizes[name] for name in chosen}
