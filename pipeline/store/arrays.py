"""Zarr arrays of an artifact: created from a spec, grown, written by chunk, verified on reading."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.errors import Damaged
from pipeline.store.units import ArraySpec, Unit

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
    """Return whether metadata equals what was written, except for a second axis that has grown."""
    if found is None or wrote is None or {**found, "shape": 0} != {**wrote, "shape": 0}:
        return False
    have, had = found["shape"], wrote["shape"]
    if not isinstance(have, list) or len(have) != len(had) or len(had) < 2:
        return bool(have == had)
    others = have[:1] + have[2:] == had[:1] + had[2:]
    return others and isinstance(have[1], int) and have[1] >= had[1]


def create(folder: Path, spec: ArraySpec) -> None:
    """Create an array, or grow the existing one to `spec.shape`; it never shrinks.

    Only the second axis grows, that of views. Uncompressed, so that a chunk's bytes are its values;
    unwritten places are NaN.
    """
    found, wanted = described(folder), _metadata(spec)
    if same_but_longer(found, wanted):
        return
    folder.mkdir(exist_ok=True)
    files.write_json(folder / METADATA, wanted)


def fit(folder: Path, chunks: Iterable[str]) -> dict[str, Any]:
    """Fit an array's shape to the chunks that were written; return its metadata.

    A process that was killed may have made it for more, one with a smaller N for less.
    """
    found = described(folder)
    if found is None:
        raise Damaged(f"{folder / METADATA} is not what was written; run the same command again")
    places = [tuple(map(int, chunk.split("/")[1:])) for chunk in chunks]
    if len(found["shape"]) > 1 and places:
        size = int(found["chunk_grid"]["configuration"]["chunk_shape"][1])
        reach = (1 + max(place[1] for place in places)) * size
        if found["shape"][1] != reach:
            found["shape"][1] = reach
            files.write_json(folder / METADATA, found)
    return found


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
    """Open an array for writing chunks."""
    import zarr

    # Without it every value would be compared with the fill value first.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(folder, mode="r+")


def write_chunk(array: zarr.Array[Any], unit: Unit, values: np.ndarray) -> str:
    """Write the chunk of a unit; return its path below the array's folder."""
    where = (unit.rows,) if unit.crops is None else (unit.rows, unit.crops)
    array[where] = values
    starts = [part.start // chunk for part, chunk in zip(where, array.chunks, strict=False)]
    return _chunk([*starts, *[0] * (array.ndim - len(starts))])


def _chunk(place: Sequence[int]) -> str:
    return "/".join(["c", *map(str, place)])


def all_finite(values: np.ndarray) -> bool:
    """Return whether all values are finite, as all stored values are."""
    import numpy as np

    if values.dtype == np.float16:  # by their bits, which are in order: numpy would convert each
        values = np.ascontiguousarray(values)
        positive, negative = values.view(np.int16), values.view(np.uint16)
        return bool(positive.max(initial=0) < 0x7C00 and negative.max(initial=0) < 0xFC00)
    return bool(np.isfinite(values).all())


class StoredArray:
    """An array of a finished artifact, read lazily; of what is read, every chunk is checked.

    `check` is told the chunks, by their paths below the array's folder, before any is read; and
    again, to be looked at anew, if what was read cannot have been written.
    """

    def __init__(self, folder: Path, check: Callable[[Iterable[str], bool], None]) -> None:
        import zarr

        self._array, self._check = zarr.open_array(folder, mode="r"), check

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape: images, then the axes of each."""
        return tuple(self._array.shape)

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the array, such as the names along an axis."""
        return dict(self._array.attrs)

    def __getitem__(self, where: slice | tuple[slice, ...]) -> np.ndarray:
        """The values of slices along the first axes; the other axes whole."""
        import numpy as np

        slices = where if isinstance(where, tuple) else (where,)
        chunks = [_chunk(place) for place in itertools.product(*self._places(slices))]
        self._check(chunks, False)
        values = np.asarray(self._array[slices])
        if not all_finite(values):  # a chunk went after it was checked
            self._check(chunks, True)
            values = np.asarray(self._array[slices])  # it has come back
        return values

    def _places(self, slices: tuple[slice, ...]) -> list[range]:
        whole = [slice(None)] * (self._array.ndim - len(slices))
        places = []
        sizes = zip([*slices, *whole], self._array.shape, self._array.chunks, strict=True)
        for part, length, chunk in sizes:
            start, stop, _ = part.indices(length)
            places.append(range(start // chunk, math.ceil(stop / chunk) if stop > start else 0))
        return places
