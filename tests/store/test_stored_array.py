"""Arrays as results hand them out: indexed like NumPy, verified, and never with a hole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import load
from pipeline.core.errors import Damaged
from pipeline.run import Run
from pipeline.store.arrays import StoredArray
from pipeline.store.units import ArraySpec
from pipeline.store.writer import ArtifactWriter
from tests.helpers.runs import Runner, make_all

SHAPE, CHUNKS = (7, 4, 3), (3, 2, 3)
VALUES = np.arange(np.prod(SHAPE), dtype=np.float16).reshape(SHAPE)


def opened(folder: Path, seen: set[str] | None = None, dtype: str | None = None) -> StoredArray:
    """An array that Zarr wrote; the chunks that are read are added to `seen`."""

    def read(chunk: str, into: memoryview) -> None:
        into[:] = (folder / chunk).read_bytes()
        if seen is not None:
            seen.add(chunk)

    return StoredArray(json.loads((folder / "zarr.json").read_bytes()), read, dtype)


def by_zarr(folder: Path, values: np.ndarray, chunks: tuple[int, ...]) -> Path:
    """Have Zarr write an array as the store lays it out."""
    zarr.create_array(folder, data=values, chunks=chunks, compressors=None, fill_value=np.nan)
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredArray, set[str]]:
    """An array whose chunks are written down as they are read."""
    seen: set[str] = set()
    folder = by_zarr(tmp_path_factory.mktemp("array") / "it.zarr", VALUES, CHUNKS)
    return opened(folder, seen), seen


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(where=hnp.basic_indices(SHAPE, allow_newaxis=False))
def test_integers_slices_and_dots_are_numpys(
    stored: tuple[StoredArray, set[str]], where: Any
) -> None:
    array, seen = stored
    seen.clear()
    assert np.array_equal(array[where], VALUES[where])
    assert array[where].dtype == VALUES.dtype
    touched = np.zeros(SHAPE, bool)
    touched[where] = True
    chunks = {"/".join(map(str, np.array(place) // CHUNKS)) for place in np.argwhere(touched)}
    assert seen == {f"c/{chunk}" for chunk in chunks}


INTEGERS = "bhilqpBHILQP"
"""Every integer type of NumPy."""


@st.composite
def indices(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """The shape of an array of one to three axes, and an index of any kind for it."""
    shape = SHAPE[: draw(st.integers(1, 3))]
    left, where = list(shape), []
    while left and draw(st.integers(0, 4)):
        kind = draw(st.sampled_from(["int", "scalar", "slice", "array", "list", "mask", "none"]))
        if kind == "none":
            where.append(np.newaxis)
            continue
        length = left.pop(0)
        name = draw(st.sampled_from(INTEGERS))
        inside = st.integers(0 if name.isupper() else -length, length - 1)
        if kind == "int":
            where.append(draw(st.integers(-length - 1, length)))
        elif kind == "scalar":
            where.append(np.array(draw(inside)).astype(name)[()])
        elif kind == "slice":
            where.append(draw(st.slices(length)))
        elif kind == "array":
            size = draw(st.sampled_from([(), (0,), (1,), (2,), (2,), (3,), (2, 1)]))
            where.append(draw(hnp.arrays(np.int64, size, elements=inside)).astype(name))
        elif kind == "list":
            where.append(draw(st.lists(inside, max_size=3)))
        else:
            wide = [length, *left[: draw(st.integers(0, len(left)))]]
            del left[: len(wide) - 1]
            mask = draw(st.sampled_from([hnp.arrays(bool, wide), st.just(np.zeros(wide, bool))]))
            where.append(draw(st.one_of(mask, st.just(np.zeros([0, *wide[1:]], bool)))))
    if draw(st.booleans()):
        where.insert(draw(st.integers(0, len(where))), Ellipsis)
    return shape, where[0] if len(where) == 1 and draw(st.booleans()) else tuple(where)


@pytest.mark.slow
@settings(max_examples=1000)
@given(drawn=indices())
def test_every_index_is_numpys_or_an_error(arrays: list[StoredArray], drawn: Any) -> None:
    shape, where = drawn
    array, values = arrays[len(shape) - 1], VALUES[(..., *[0] * (3 - len(shape)))]
    try:
        expected = values[where]
    except IndexError:
        with pytest.raises(IndexError):
            array[where]
        return
    try:
        found = array[where]
    except IndexError:  # NumPy does not look at an index out of bounds that is paired with none
        assert expected.size == 0
        return
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> list[StoredArray]:
    """Arrays of one, two and three axes."""
    found = []
    for ndim in (1, 2, 3):
        folder = tmp_path_factory.mktemp("arrays") / "it.zarr"
        by_zarr(folder, VALUES[(..., *[0] * (3 - ndim))], CHUNKS[:ndim])
        found.append(opened(folder))
    return found


def test_only_the_chunks_of_a_list_or_mask_are_read(
    stored: tuple[StoredArray, set[str]],
) -> None:
    array, seen = stored
    for where, chunks in (
        ([6, 0], {"c/0/0/0", "c/0/1/0", "c/2/0/0", "c/2/1/0"}),
        ((np.arange(7) == 4, slice(None), 0), {"c/1/0/0", "c/1/1/0"}),
    ):
        seen.clear()
        assert np.array_equal(array[where], VALUES[where])
        assert seen == chunks
    seen.clear()
    assert array[np.zeros(7, bool)].shape == (0, 4, 3)
    assert not seen


@pytest.mark.parametrize(
    "where", [7, -8, (0, 0, 0, 0), (..., ...), [9], np.ones(3, bool), ([0], [4]), "a", [0.5], True]
)
def test_what_cannot_be_an_index_is_an_error(
    stored: tuple[StoredArray, set[str]], where: Any
) -> None:
    with pytest.raises(IndexError):
        stored[0][where]


def test_it_looks_like_an_array(stored: tuple[StoredArray, set[str]], tmp_path: Path) -> None:
    array, _ = stored
    assert (len(array), array.shape, array.ndim) == (7, SHAPE, 3)
    assert np.array_equal(np.asarray(array), VALUES)
    assert np.asarray(array, dtype=np.float64).dtype == np.float64


def test_widening_is_one_argument_and_a_mean_is_right(made: Run) -> None:
    root = made.store.root
    wide = load.embeddings("tiny", store=root, dtype="float32")
    assert wide[0].dtype == wide.dtype == np.float32
    assert np.array_equal(wide[:], load.embeddings("tiny", store=root)[:].astype(np.float32))


def test_a_mean_of_many_widened_rows_is_right(tmp_path: Path) -> None:
    """Of float16, xarray makes it 0.14: its sums hardly grow beyond 2,048."""
    rows = np.random.default_rng(0).normal(0.9, 0.05, (20_000, 2)).astype(np.float16)
    wide = opened(by_zarr(tmp_path / "it.zarr", rows, (4_096, 2)), dtype="float32")
    mean = xarray.DataArray(wide[:], dims=("image", "dim")).mean("image")
    assert np.allclose(mean, rows.astype(np.float64).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("what", ["gone", "flipped"])
def test_no_hole_is_handed_out(made: Run, what: str) -> None:
    root = made.store.root
    folder = made.store.artifact(made.named("embeddings-raw")[0]).path / "embeddings.zarr"
    chunk = sorted(path for path in (folder / "c").rglob("*") if path.is_file())[0]
    array = load.embeddings("tiny", store=root)
    if what == "gone":
        chunk.unlink()
    else:
        content = bytearray(chunk.read_bytes())
        content[0] ^= 1
        chunk.write_bytes(bytes(content))
    with pytest.raises(Damaged, match="computed again by abs run"):
        array[:]


@pytest.mark.slow
def test_what_another_run_is_adding_is_not_part_of_it(run_of: Runner) -> None:
    run = run_of()
    make_all(run)
    stage = run.named("embeddings-raw")[0]
    artifact = run.store.artifact(stage)
    before = load.embeddings("tiny", store=run.store.root)[:]
    images, crops, dim = before.shape
    shape, chunks = (images, 10 * crops, dim), (3, 2, dim)
    ArtifactWriter(artifact).create(
        ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")
    )
    after = load.embeddings("tiny", store=run.store.root)
    assert after.shape == before.shape
    assert np.array_equal(after[:], before)
