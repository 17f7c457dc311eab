"""Arrays as results hand them out: indexed like NumPy, verified, and never with a hole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import load
from pipeline.core.errors import Damaged
from pipeline.run import Run
from pipeline.store.arrays import StoredArray
from pipeline.store.units import ArraySpec
from tests.helpers.runs import Runner, make_all

SHAPE, CHUNKS = (7, 4, 3), (3, 2, 3)
VALUES = np.arange(np.prod(SHAPE), dtype=np.float16).reshape(SHAPE)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredArray, list[set[str]]]:
    """An array whose chunks are written down as they are checked."""
    folder, seen = tmp_path_factory.mktemp("array") / "it.zarr", [set[str]()]
    array = zarr.create_array(folder, shape=SHAPE, chunks=CHUNKS, dtype="float16", compressors=None)
    array[:] = VALUES
    return StoredArray(folder, SHAPE, lambda chunks, again: seen.append(set(chunks))), seen


AXIS = st.one_of(st.integers(-8, 8), st.slices(7))
LISTS = st.lists(st.integers(-4, 3), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(where=hnp.basic_indices(SHAPE, allow_newaxis=False))
def test_integers_slices_and_dots_are_numpys(
    stored: tuple[StoredArray, list[set[str]]], where: Any
) -> None:
    array, seen = stored
    assert np.array_equal(array[where], VALUES[where])
    assert array[where].dtype == VALUES.dtype
    touched = np.zeros(SHAPE, bool)
    touched[where] = True
    chunks = {"/".join(map(str, np.array(place) // CHUNKS)) for place in np.argwhere(touched)}
    assert seen[-1] == {f"c/{chunk}" for chunk in chunks}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(chosen=st.one_of(st.lists(st.integers(-7, 6), max_size=9), hnp.arrays(bool, 7)))
def test_lists_and_masks_are_numpys(
    stored: tuple[StoredArray, list[set[str]]], chosen: Any
) -> None:
    array, _ = stored
    index = np.asarray(chosen, dtype=bool if isinstance(chosen, np.ndarray) else np.int64)
    assert np.array_equal(array[chosen], VALUES[index])
    assert np.array_equal(array[chosen, 1:], VALUES[index, 1:])
    assert np.array_equal(array[..., 2][index], VALUES[..., 2][index])


@pytest.mark.parametrize(
    "where", [7, -8, (0, 0, 0, 0), (..., ...), [9], np.ones(3, bool), ([0], [0]), "a", [0.5]]
)
def test_what_cannot_be_an_index_is_an_error(
    stored: tuple[StoredArray, list[set[str]]], where: Any
) -> None:
    with pytest.raises(IndexError):
        stored[0][where]


def test_it_looks_like_an_array(stored: tuple[StoredArray, list[set[str]]], tmp_path: Path) -> None:
    array, _ = stored
    assert (len(array), array.shape, array.ndim) == (7, SHAPE, 3)
    assert np.array_equal(np.asarray(array), VALUES)
    assert np.asarray(array, dtype=np.float64).dtype == np.float64


def test_widening_is_one_argument_and_a_mean_is_right(made: Run) -> None:
    root = made.store.root
    wide = load.embeddings("tiny", store=root, dtype="float32")
    assert wide[0].dtype == wide.dtype == np.float32
    assert np.array_equal(wide[:], load.embeddings("tiny", store=root)[:].astype(np.float32))


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
    with pytest.raises(Damaged, match="run the same command again"):
        array[:]


def test_what_another_run_is_adding_is_not_part_of_it(run_of: Runner) -> None:
    run = run_of()
    make_all(run)
    stage = run.named("embeddings-raw")[0]
    artifact = run.store.artifact(stage)
    before = load.embeddings("tiny", store=run.store.root)[:]
    images, crops, dim = before.shape
    shape, chunks = (images, 10 * crops, dim), (3, 2, dim)
    artifact.create(ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16"))
    after = load.embeddings("tiny", store=run.store.root)
    assert after.shape == before.shape
    assert np.array_equal(after[:], before)
