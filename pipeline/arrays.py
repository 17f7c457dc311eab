"""Arrays of an artifact: made from a spec, grown, written a chunk at a time, read with a check."""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.stage import ArraySpec, Unit

if TYPE_CHECKING:
    import numpy as np
    import zarr

METADATA = "zarr.json"


def described(folder: Path) -> dict[str, Any] | None:
    """The metadata of an array; None if it is not as `create` writes it."""
    try:
        content = (folder / METADATA).read_bytes()
        found = json.loads(content)
        whole = isinstance(found, dict) and files.rendered(found) == content
    except (OSError, ValueError, RecursionError):
        return None
    return found if whole else None


def same_but_longer(found: dict[str, Any] | None, wrote: dict[str, Any] | None) -> bool:
    """Whether metadata is what was written, but for a shape that another run may have let grow."""
    if found is None or wrote is None or {**found, "shape": 0} != {**wrote, "shape": 0}:
        return False
    have, had = found["shape"], wrote["shape"]
    lengths = isinstance(have, list) and all(isinstance(length, int) for length in have)
    return lengths and len(have) == len(had) and all(map(operator.ge, have, had))


def create(folder: Path, spec: ArraySpec) -> None:
    """Make an array, or let the one that is there grow to `spec.shape`; it never shrinks.

    Uncompressed, so that a chunk's bytes are its values; unwritten places are NaN.
    """
    found = described(folder) or {}
    have = found.get("shape")
    if isinstance(have, list) and len(have) == len(spec.shape):
        spec = replace(spec, shape=tuple(map(max, have, spec.shape)))
    wanted = _metadata(spec)
    if found != wanted:
        files.write_json(folder / METADATA, wanted)


def _metadata(spec: ArraySpec) -> dict[str, Any]:
    import zarr

    store: dict[str, Any] = {}
    zarr.create_array(
        store,
        shape=spec.shape,
        chunks=spec.chunks,
        dtype=spec.dtype,
        compressors=None,
        fill_value=float("nan"),
        dimension_names=spec.dims,
        attributes=dict(spec.attributes),
    )
    return dict(json.loads(store[METADATA].to_bytes()))


def open_to_write(folder: Path) -> zarr.Array[Any]:
    """An array that chunks are written to."""
    import zarr

    # Without it every value would be compared with the fill value first.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(folder, mode="r+")


def write_chunk(array: zarr.Array[Any], unit: Unit, values: np.ndarray) -> str:
    """Write the chunk of a unit; where it lies below the array's folder."""
    where = (unit.rows,) if unit.crops is None else (unit.rows, unit.crops)
    array[where] = values
    starts = [part.start // chunk for part, chunk in zip(where, array.chunks, strict=False)]
    return _chunk([*starts, *[0] * (array.ndim - len(starts))])


def _chunk(place: Sequence[int]) -> str:
    return "/".join(["c", *map(str, place)])


class StoredArray:
    """An array of a finished artifact, read lazily; of what is read, every chunk is checked.

    `check` is told the chunks, by their paths below the array's folder, before any is read.
    """

    def __init__(self, folder: Path, check: Callable[[Iterable[str]], None]) -> None:
        import zarr

        self._array, self._check = zarr.open_array(folder, mode="r"), check

    @property
    def shape(self) -> tuple[int, ...]:
        """All images, and what there is of each."""
        return tuple(self._array.shape)

    def __getitem__(self, where: slice | tuple[slice, ...]) -> np.ndarray:
        """The values of slices along the first axes; the other axes whole."""
        import numpy as np

        slices = where if isinstance(where, tuple) else (where,)
        self._check(_chunk(place) for place in itertools.product(*self._places(slices)))
        return np.asarray(self._array[slices])

    def _places(self, slices: tuple[slice, ...]) -> list[range]:
        whole = [slice(None)] * (self._array.ndim - len(slices))
        places = []
        sizes = zip([*slices, *whole], self._array.shape, self._array.chunks, strict=True)
        for part, length, chunk in sizes:
            start, stop, _ = part.indices(length)
            places.append(range(start // chunk, math.ceil(stop / chunk) if stop > start else 0))
        return places
