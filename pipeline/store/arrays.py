"""Zarr arrays of an artifact: created from a spec, grown, written by chunk, verified on reading."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.core import files
from pipeline.core.checksums import Content, Hashing
from pipeline.core.errors import Damaged
from pipeline.core.threads import READERS, prefetch, readers
from pipeline.store.units import ArraySpec, Unit

if TYPE_CHECKING:
    import numpy as np

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


def write_chunk(
    folder: Path, metadata: dict[str, Any], unit: Unit, values: np.ndarray
) -> tuple[str, Content]:
    """Write the chunk of a unit, atomically; what the unit leaves of it is NaN.

    Returns its path below the folder, and its content. A chunk is the bytes of its values, so it is
    written as such: Zarr takes twice the time.
    """
    import numpy as np

    shape = _chunk_shape(metadata)
    parts = [part for part in (unit.rows, unit.crops) if part is not None]
    place = [part.start // size for part, size in zip(parts, shape, strict=False)]
    wanted = (*(part.stop - part.start for part in parts), *shape[len(parts) :])
    if values.shape != wanted:
        raise ValueError(f"unit {unit.name} has {values.shape} values, not {wanted}")
    if values.shape != shape:
        partial, values = values, np.full(shape, np.nan, values.dtype)
        values[tuple(map(slice, partial.shape))] = partial
    chunk = _chunk([*place, *[0] * (len(shape) - len(place))])
    path, content = folder / chunk, _bytes(np.ascontiguousarray(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        hashing = Hashing(file)
        hashing.write(content)
    return chunk, hashing.content


def dtype_of(metadata: dict[str, Any]) -> np.dtype[Any]:
    """Type of an array's values, as they lie in its chunks."""
    import numpy as np

    dtype: np.dtype[Any] = np.dtype(metadata["data_type"])
    return dtype.newbyteorder("<")


def _chunk_shape(metadata: dict[str, Any]) -> tuple[int, ...]:
    return tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])


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
    `metadata` is that of the Zarr array; its shape covers what the manifest covers, whatever a run
    that is under way adds. `read` fills a buffer with a chunk, named by its path below the array's
    folder, or raises Damaged. A chunk's bytes are its values, so that reading one is as fast as
    reading a file; Zarr takes three times as long.
    """

    def __init__(
        self,
        metadata: dict[str, Any],
        read: Callable[[str, memoryview], None],
        dtype: str | None = None,
    ) -> None:
        import numpy as np

        self._metadata, self._read_chunk = metadata, read
        self.shape: tuple[int, ...] = tuple(metadata["shape"])
        self.dtype = np.dtype(dtype or metadata["data_type"])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the array, such as the names along an axis."""
        return dict(self._metadata["attributes"])

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

        size = _chunk_shape(self._metadata)
        block = np.empty(tuple(map(len, places)), dtype_of(self._metadata))
        if not block.size:
            return block
        along = [_by_chunk(p, length) for p, length in zip(places, size, strict=True)]

        def fill(parts: Sequence[_Part]) -> None:
            name, part = _chunk([p.chunk for p in parts]), block[tuple(p.block for p in parts)]
            if part.shape == size and part.flags.c_contiguous:
                self._read_chunk(name, _bytes(part))
                return
            chunk = np.empty(size, block.dtype)
            self._read_chunk(name, _bytes(chunk))
            part[...] = chunk[np.ix_(*(p.inside for p in parts))]

        chunks = list(itertools.product(*along))
        if len(chunks) == 1:
            fill(chunks[0])
        for _, filled in prefetch(readers(), fill, chunks[1:] and chunks, depth=READERS):
            filled.result()
        return block


class _Part(NamedTuple):
    """The places of a block that lie in one chunk, along one axis."""

    chunk: int
    block: slice
    inside: np.ndarray


def _by_chunk(places: np.ndarray, size: int) -> list[_Part]:
    """Group ascending places by the chunk that they lie in."""
    import numpy as np

    chunks, starts = np.unique(places // size, return_index=True)
    parts = itertools.pairwise([*starts.tolist(), len(places)])
    return [
        _Part(chunk, slice(first, last), places[first:last] - chunk * size)
        for chunk, (first, last) in zip(chunks.tolist(), parts, strict=True)
    ]


def _bytes(values: np.ndarray) -> memoryview:
    """The memory of a contiguous array."""
    return memoryview(values.data).cast("B")


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
