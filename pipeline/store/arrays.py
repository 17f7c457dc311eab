"""Zarr arrays of an artifact: created from a spec, grown, written by chunk, verified on reading."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.addresses import zarr_options
from pipeline.core.errors import Damaged
from pipeline.store.units import ArraySpec, Unit

if TYPE_CHECKING:
    import numpy as np
    import zarr

METADATA = "zarr.json"
GROUP = {"attributes": {}, "node_type": "group", "zarr_format": 3}
"""Metadata of an artifact's folder as a Zarr group."""


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


Index = Any
"""Index of one axis: an integer, a slice, a list of integers, or a boolean mask."""


class StoredArray:
    """An array of a finished artifact, read lazily; every chunk that is read is verified.

    Indexed like a NumPy array with integers, slices, `...`, and at most one list of integers or
    boolean mask. `shape` covers what the manifest covers, whatever a run that is under way adds.
    `check` is called with the chunks, by their paths below the array's folder, before they are
    read; and again, to verify them anew, if what was read cannot have been written.
    """

    def __init__(
        self,
        folder: Path,
        shape: Sequence[int],
        check: Callable[[Iterable[str], bool], None],
        dtype: str | None = None,
    ) -> None:
        import numpy as np
        import zarr

        self._array: Any = zarr.open_array(**zarr_options(folder), mode="r")
        self._check, self.shape = check, tuple(shape)
        self.dtype = np.dtype(dtype or self._array.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the array, such as the names along an axis."""
        return dict(self._array.attrs)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<StoredArray {self.shape} {self.dtype}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self[...]
        return values if dtype is None else values.astype(dtype)

    def __getitem__(self, where: Index | tuple[Index, ...]) -> np.ndarray:
        """Read and verify a part, in `dtype`; Damaged if a chunk is missing or has changed."""
        chosen = [_index(*axis) for axis in zip(self._expanded(where), self.shape, strict=True)]
        sizes = zip(chosen, self._array.chunks, strict=True)
        places = itertools.product(*(_chunks(index, size) for index, size in sizes))
        chunks = [_chunk(place) for place in places]
        self._check(chunks, False)
        values = self._read(chosen)
        if not all_finite(values):  # a chunk went after it was checked
            self._check(chunks, True)
            values = self._read(chosen)  # it has come back
        return values.astype(self.dtype, copy=False)

    def _expanded(self, where: Index | tuple[Index, ...]) -> list[Index]:
        """Return one index per axis, without Ellipsis."""
        given = list(where) if isinstance(where, tuple) else [where]
        dots = [i for i, index in enumerate(given) if index is Ellipsis]
        whole = [slice(None)] * (self.ndim - len(given) + len(dots))
        if len(dots) > 1 or len(given) - len(dots) > self.ndim:
            raise IndexError(f"{where!r} does not fit an array of {self.ndim} axes")
        at = dots[0] if dots else len(given)
        indices = [*given[:at], *whole, *given[at + len(dots) :]]
        if sum(not isinstance(index, slice | Integral) for index in indices) > 1:
            raise IndexError("at most one axis can be indexed by a list or a mask")
        return indices

    def _read(self, chosen: list[Any]) -> np.ndarray:
        import numpy as np

        return np.asarray(self._array.oindex[tuple(chosen)])


def _index(index: Index, length: int) -> Any:
    """Return the index of an axis as an integer, a slice with a positive step, or an array."""
    import numpy as np

    if isinstance(index, slice):
        start, stop, step = index.indices(length)
        if step > 0:
            return slice(start, max(start, stop), step)
        return np.arange(start, stop, step)
    found = np.asarray(index)
    if found.dtype == bool:
        if found.shape != (length,):
            raise IndexError(f"a mask of {found.shape} does not fit an axis of {length}")
        return np.flatnonzero(found)
    if not found.size:
        return np.zeros(0, np.int64)
    if found.dtype.kind not in "iu" or found.ndim > 1:
        raise IndexError(f"cannot index an axis with {index!r}")
    if found.min() < -length or found.max() >= length:
        raise IndexError(f"index {index!r} is out of bounds for an axis of {length}")
    found = np.where(found < 0, found + length, found)
    return found if found.ndim else int(found)


def _chunks(index: Any, size: int) -> list[int]:
    """Return the chunks along an axis that an index touches."""
    import numpy as np

    if isinstance(index, slice):
        touched = np.arange(index.start, index.stop, index.step)
    else:
        touched = np.atleast_1d(index)
    return [int(chunk) for chunk in np.unique(touched // size)]
