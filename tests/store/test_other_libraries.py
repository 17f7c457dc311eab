"""Artifacts as other libraries read them: xarray, Dask, Zarr, and the zarrs codec pipeline."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xarray
import zarr

from pipeline import load
from pipeline.core import files
from pipeline.run import Run
from tests.helpers.runs import said

ARRAYS = {
    "attention": ("attention", ("image", "layer", "row", "col")),
    "embeddings-raw": ("embeddings", ("image", "view", "dim")),
    "descriptions-cupl": ("embeddings", ("text", "dim")),
    "scores": ("logits", ("image", "method", "class")),
}


def folder(made: Run, stage: str) -> Path:
    return made.store.open(made.named(stage)[0]).path


@pytest.mark.parametrize("stage", ARRAYS)
def test_xarray_opens_an_artifact_by_its_dimension_names(made: Run, stage: str) -> None:
    name, dimensions = ARRAYS[stage]
    opened = xarray.open_zarr(folder(made, stage), consolidated=False)
    array = opened[f"{name}.zarr"]
    assert array.dims == dimensions
    own = made.store.open(made.named(stage)[0]).array(name)
    assert np.array_equal(array.values, own[:])


def test_a_stored_zero_is_a_zero_in_xarray(made: Run) -> None:
    """In arrays of Zarr's format 2, xarray takes it for the fill value and hands out NaN."""
    place = folder(made, "scores")
    zarr.open_array(place / "logits.zarr", mode="r+")[...] = 0
    values = xarray.open_zarr(place, consolidated=False)["logits.zarr"].values
    assert values.dtype == np.float32
    assert not values.any()


def test_dask_and_zarr_read_the_same(made: Run) -> None:
    place = folder(made, "embeddings-raw")
    own = load.embeddings("tiny", store=made.store.root)[:]
    assert np.array_equal(zarr.open_group(place, mode="r")["embeddings.zarr"][:], own)
    assert np.array_equal(dask.array.from_zarr(place / "embeddings.zarr").compute(), own)


def test_zarrs_reads_the_same(made: Run) -> None:
    place = folder(made, "embeddings-raw") / "embeddings.zarr"
    own = load.embeddings("tiny", store=made.store.root)[:]
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        assert np.array_equal(zarr.open_array(place, mode="r")[:], own)


def test_damaged_metadata_of_the_group_is_found_and_restored(made: Run) -> None:
    place = folder(made, "attention") / "zarr.json"
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b"group", b"grasp"))
    answer = said("verify", ABS_ARTIFACTS=str(made.store.root))
    assert answer.returncode == 1
    assert "zarr.json" in answer.stdout
    assert place.read_bytes() == whole
    assert files.read_json(place, "it")["node_type"] == "group"


def floats(made: Run) -> list[pa.ChunkedArray]:
    """Every column of floats of every stored table, lists laid flat."""
    found = []
    for path in filter(Path.is_file, made.store.folder.rglob("*.parquet")):
        for column in pq.ParquetFile(path).read().columns:
            while pa.types.is_list(column.type):
                column = pc.list_flatten(column)
            if pa.types.is_floating(column.type):
                found.append(column)
    assert sum(map(len, found))
    return found


def test_no_stored_number_of_a_table_is_nan(made: Run) -> None:
    """Parquet's statistics leave NaN out, so that filters of other libraries overlook it."""
    assert not any(pc.any(pc.is_nan(column)).as_py() for column in floats(made))


def test_no_column_of_a_table_is_float16(made: Run) -> None:
    """Few libraries compute with such a column, and some of them wrongly."""
    assert {column.type for column in floats(made)} <= {pa.float32(), pa.float64()}
