"""Units of work, the arrays they are written to, and the part of a stage that the store needs."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, overload

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Output = pd.DataFrame | np.ndarray


NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True)
class Grid:
    """Blocks of rows, each of which is as many units as there are columns."""

    count: int
    """Number of rows."""
    block: int
    """Rows in a block; the last may be shorter."""
    name: str = "{:05d}"
    """Format of names, which is given the number of the block and of the column."""
    columns: tuple[range | None, ...] = (None,)
    """Crops of each unit of a block."""
    round: int = 0
    """Round of all units."""

    def __len__(self) -> int:
        return self.blocks * len(self.columns)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.block)

    def names(self) -> Iterator[str]:
        """Yield the names of all units."""
        for block in range(self.blocks):
            for column in range(len(self.columns)):
                yield self.name.format(block, column)

    def unit(self, place: int) -> Unit:
        """Make the unit at a place."""
        block, column = divmod(place, len(self.columns))
        start, crops = block * self.block, self.columns[column]
        rows = slice(start, min(start + self.block, self.count))
        views = None if crops is None else slice(crops.start, crops.stop)
        return Unit(self.name.format(block, column), rows, views, self.round)

    def overlapping(self, rows: Iterable[int], crops: slice | None) -> Iterator[Unit]:
        """Yield the units with any of some ascending rows and any of some crops."""
        for block in dict.fromkeys(row // self.block for row in rows if 0 <= row < self.count):
            for column, own in enumerate(self.columns):
                if (
                    crops is None
                    or own is None
                    or range(max(own.start, crops.start), min(own.stop, crops.stop))
                ):
                    yield self.unit(block * len(self.columns) + column)


class Units(Sequence[Unit]):
    """Units of a stage, which are made when they are asked for.

    A large dataset has some 100,000, of which most commands need none and others a few.
    """

    def __init__(self, *grids: Grid) -> None:
        self._grids = grids
        self._starts = [0, *itertools.accumulate(map(len, grids))]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, place: int) -> Unit: ...

    @overload
    def __getitem__(self, place: slice) -> list[Unit]: ...

    def __getitem__(self, place: int | slice) -> Unit | list[Unit]:
        """Make the unit at a place, or those of a slice."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        found = range(len(self))[place]
        grid = bisect_right(self._starts, found) - 1
        return self._grids[grid].unit(found - self._starts[grid])

    def __iter__(self) -> Iterator[Unit]:
        return (grid.unit(place) for grid in self._grids for place in range(len(grid)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all units, in their order."""
        return tuple(name for grid in self._grids for name in grid.names())

    def overlapping(self, rows: Sequence[int], crops: slice | None) -> list[Unit]:
        """Return the units that have any of some ascending rows, and any of some crops."""
        return [unit for grid in self._grids for unit in grid.overlapping(rows, crops)]


WHOLE = Units(Grid(1, 1, "all"))
"""The unit of a stage that has only one."""


@lru_cache(maxsize=64)
def row_units(count: int, block: int) -> Units:
    """Split `count` rows into units of `block` rows; the last may be shorter."""
    return Units(Grid(count, block))


@lru_cache(maxsize=64)
def crop_units(count: int, block: int, crops: int, crop_block: int) -> Units:
    """Blocks of rows times whole blocks of crops, as many as hold the first `crops` crops."""
    columns = (range(start, start + crop_block) for start in range(0, crops, crop_block))
    return Units(Grid(count, block, "{:05d}-{:03d}", tuple(columns)))


WIDER = 4
"""Blocks of rows in a unit after the first round, in which few rows ask for more."""


def round_units(count: int, block: int, ends: Sequence[int]) -> Units:
    """Blocks of rows times rounds; round i goes on from crop `ends[i - 1]` up to `ends[i]`."""
    blocks = [block, *[WIDER * block] * (len(ends) - 1)]
    crops = itertools.starmap(range, itertools.pairwise([0, *ends]))
    rounds = enumerate(zip(blocks, crops, strict=True))
    return Units(
        *(Grid(count, rows, f"r{i:02d}-{{:05d}}", (each,), i) for i, (rows, each) in rounds)
    )


def names_of(units: Iterable[Unit]) -> Sequence[str]:
    """Return the names of units, in their order."""
    return units.names if isinstance(units, Units) else [unit.name for unit in units]


def by_round(units: Iterable[Unit]) -> list[list[Unit]]:
    """Group units by round, the first round first; the order within a round is kept."""
    ordered = sorted(units, key=lambda unit: unit.round)
    return [list(group) for _, group in itertools.groupby(ordered, lambda unit: unit.round)]


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of units, or of their files, by the numbers in them: 99999 before 100000."""
    return sorted(names, key=lambda name: [int(part) for part in NUMBER.findall(name)])


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

    def units(self, store: Any) -> Units:
        """Return all units of the finished artifact."""
        ...
