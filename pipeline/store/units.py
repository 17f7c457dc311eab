"""Units of work, the arrays they are written to, and the part of a stage that the store needs."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Output = pd.DataFrame | np.ndarray


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work that is committed: a block of rows, perhaps of crops too."""

    name: str
    rows: slice
    crops: slice | None = None
    round: int = 0
    """Units of a round read what all units of the rounds before have written."""

    @property
    def size(self) -> int:
        """Rows in the unit, or crops where it has them."""
        rows = int(self.rows.stop - self.rows.start)
        return rows * (self.crops.stop - self.crops.start) if self.crops else rows


@dataclass(frozen=True)
class Footprint:
    """Memory and storage of a unit in bytes; None where only a loaded model can tell."""

    held: int | None
    """Memory of its inputs and outputs, without the model and its batch."""
    written: int | None
    """Storage of its arrays; a partly filled chunk counts as a whole one."""
    open: int = 0
    """Memory of open images, whatever the number of units in flight."""


WHOLE = Unit("all", slice(0, 1))
"""The unit of a stage that has only one."""


def row_units(count: int, block: int) -> list[Unit]:
    """Split `count` rows into units of `block` rows; the last may be shorter."""
    starts = range(0, count, block)
    return [Unit(f"{i:05d}", slice(s, min(s + block, count))) for i, s in enumerate(starts)]


def crop_units(count: int, block: int, crops: int, crop_block: int) -> list[Unit]:
    """Blocks of rows times whole blocks of crops, as many as hold the first `crops` crops."""
    return [
        Unit(f"{unit.name}-{c:03d}", unit.rows, slice(c * crop_block, (c + 1) * crop_block))
        for unit in row_units(count, block)
        for c in range(-(-crops // crop_block))
    ]


WIDER = 4
"""Blocks of rows in a unit after the first round, in which few rows ask for more."""


def round_units(count: int, block: int, ends: Sequence[int]) -> list[Unit]:
    """Blocks of rows times rounds; round i goes on from crop `ends[i - 1]` up to `ends[i]`."""
    return [
        Unit(f"r{number:02d}-{unit.name}", unit.rows, slice(first, last), number)
        for number, (first, last) in enumerate(itertools.pairwise([0, *ends]))
        for unit in row_units(count, WIDER * block if number else block)
    ]


def by_round(units: Iterable[Unit]) -> list[list[Unit]]:
    """Group units by round, the first round first; the order within a round is kept."""
    ordered = sorted(units, key=lambda unit: unit.round)
    return [list(group) for _, group in itertools.groupby(ordered, lambda unit: unit.round)]


def overlapping(units: Iterable[Unit], rows: Sequence[int], crops: slice | None) -> list[Unit]:
    """Return the units that have any of some ascending rows, and any of some crops."""
    return [
        unit
        for unit in units
        if bisect_left(rows, unit.rows.start) < bisect_left(rows, unit.rows.stop)
        and (
            crops is None
            or unit.crops is None
            or max(unit.crops.start, crops.start) < min(unit.crops.stop, crops.stop)
        )
    ]


@dataclass(frozen=True)
class ArraySpec:
    """An array of an artifact: one chunk per unit along `image` (and `crop`), raw, NaN-filled."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Stored beside the array, such as the names along an axis."""


class Keyed(Protocol):
    """The part of a stage that the store needs: name and key of its artifact, and its units."""

    @property
    def name(self) -> str:
        """The folder of the stage's artifacts."""
        ...

    @property
    def key(self) -> str:
        """The folder of this artifact."""
        ...

    def units(self, store: Any) -> list[Unit]:
        """Return all units of the finished artifact."""
        ...
