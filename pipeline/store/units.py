"""Units of work and the arrays they are written to: what the store needs to know of a stage."""

from __future__ import annotations

from collections.abc import Mapping
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

    @property
    def size(self) -> int:
        """Rows in the unit, or crops where it has them."""
        rows = int(self.rows.stop - self.rows.start)
        return rows * (self.crops.stop - self.crops.start) if self.crops else rows


@dataclass(frozen=True)
class Footprint:
    """What a unit takes, in bytes; None where that is known only once a model is loaded."""

    held: int | None
    """Memory for what is read, made and written of it, beside the model and its batch."""
    written: int | None
    """Room in the store, for arrays: a whole chunk, also where it is not full."""
    open: int = 0
    """Memory for open images, however many units are on their way."""


WHOLE = Unit("all", slice(0, 1))
"""The only unit of a stage that is not divided."""


def row_units(count: int, block: int) -> list[Unit]:
    """`count` rows in blocks of `block`; the last may be shorter."""
    starts = range(0, count, block)
    return [Unit(f"{i:05d}", slice(s, min(s + block, count))) for i, s in enumerate(starts)]


def crop_units(count: int, block: int, crops: int, crop_block: int) -> list[Unit]:
    """Blocks of rows times whole blocks of crops, as many as hold the first `crops` crops."""
    return [
        Unit(f"{unit.name}-{c:03d}", unit.rows, slice(c * crop_block, (c + 1) * crop_block))
        for unit in row_units(count, block)
        for c in range(-(-crops // crop_block))
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
    """What the store needs to know of a stage: where its artifact lies, and its units."""

    @property
    def name(self) -> str:
        """The folder of the stage's artifacts."""
        ...

    @property
    def key(self) -> str:
        """The folder of this artifact."""
        ...

    def units(self, store: Any) -> list[Unit]:
        """All units that the artifact must have."""
        ...
