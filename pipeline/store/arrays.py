"""Zarr arrays of an artifact: created from a spec, grown, written by chunk, verified on reading."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
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
    describe(folder, wanted)


def describe(folder: Path, metadata: dict[str, Any]) -> None:
    """Write an array's metadata, and make its folder if there is none."""
    folder.mkdir(exist_ok=True)
    files.write_json(folder / METADATA, metadata)


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
    """An array of a finished artifact, read lazily; every chunk that is read is verified.

    Indexed like a NumPy array; IndexError for a boolean that is no mask. Integer arrays that are
    paired (`array[[0, 9], [1, 2]]`) read the block of rows and columns that they name.
    `shape` covers what the manifest covers, whatever a run that is under way adds. `check` is
    called with the chunks, by their paths below the array's folder, before they are read; and
    again, to verify them anew, if what was read cannot have been written.
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
        values: np.ndarray = self[...]
        return values if dtype is None else values.astype(dtype)

    def __getitem__(self, where: Any) -> Any:
        """Read and verify a part, in `dtype`; Damaged if a chunk is missing or has changed."""
        places, inner = _block(where if isinstance(where, tuple) else (where,), self.shape)
        return self._read(places).astype(self.dtype, copy=False)[inner]

    def _read(self, places: list[np.ndarray]) -> np.ndarray:
        """Read and verify the block at some ascending places along each axis."""
        import numpy as np

        shape = tuple(map(len, places))
        if 0 in shape:
            return np.empty(shape, self._array.dtype)
        touched = [np.unique(p // size) for p, size in zip(places, self._array.chunks, strict=True)]
        chunks = [_chunk(place) for place in itertools.product(*touched)]
        chosen = tuple(map(_selection, places))
        self._check(chunks, False)
        values = np.asarray(self._array.oindex[chosen])
        if not all_finite(values):  # a chunk went after it was checked
            self._check(chunks, True)
            values = np.asarray(self._array.oindex[chosen])  # it has come back
        return values


def _block(
    where: tuple[Any, ...], shape: tuple[int, ...]
) -> tuple[list[np.ndarray], tuple[Any, ...]]:
    """Split an index: the places that it reads along each axis, and the index of that block."""
    import numpy as np

    parts = [part for index in where for part in _without_masks(index)]
    taken = sum(part is not None and part is not Ellipsis for part, _ in parts)
    dots = sum(part is Ellipsis for part, _ in parts)
    if taken > len(shape) or dots > 1:
        raise IndexError(f"{where!r} does not fit an array of {len(shape)} axes")
    places: list[np.ndarray] = []
    inner = []
    for part, length in parts:
        if part is Ellipsis:
            places += map(np.arange, shape[len(places) : len(places) + len(shape) - taken])
        elif part is not None:
            axis = shape[len(places)]
            if length not in (None, 0, axis):
                raise IndexError(f"a mask of {length} does not fit an axis of {axis}")
            found, part = _along(part, axis)
            places.append(found)
        inner.append(part)
    return [*places, *map(np.arange, shape[len(places) :])], tuple(inner)


def _without_masks(index: Any) -> list[tuple[Any, int | None]]:
    """Replace a mask by the integer arrays it stands for, each with the length of its axis."""
    import numpy as np

    if index is None or index is Ellipsis or isinstance(index, slice):
        return [(index, None)]
    found = np.asarray(index)
    if found.dtype == bool and found.ndim:
        return list(zip(found.nonzero(), found.shape, strict=True))
    if not found.size and not isinstance(index, np.ndarray):
        found = found.astype(np.intp)  # an empty list
    if found.dtype.kind not in "iu":
        raise IndexError(f"cannot index an axis with {index!r}")
    return [(found, None)]


def _along(index: Any, length: int) -> tuple[np.ndarray, Any]:
    """Return the ascending places that a slice or integers name, and their index among these."""
    import numpy as np

    if isinstance(index, slice):
        places = np.arange(*index.indices(length))
        forward = index.step is None or index.step > 0
        return (places, slice(None)) if forward else (places[::-1], slice(None, None, -1))
    if index.size and (index.min() < -length or index.max() >= length):
        raise IndexError(f"index {index!r} is out of bounds for an axis of {length}")
    wanted = index.astype(np.intp)
    wanted = np.where(wanted < 0, wanted + length, wanted)
    places = np.unique(wanted)
    inner = np.searchsorted(places, wanted)
    return places, inner if index.ndim else int(inner)


def _selection(places: np.ndarray) -> slice | np.ndarray:
    """Return ascending places as a slice where they have no gaps, which Zarr reads faster."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places
