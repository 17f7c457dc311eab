"""Comparisons of the store: vectors written and read, against NumPy files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.bench.case import Case, N
from pipeline.bench.timing import Row, Work, compare, seconds_of
from pipeline.engine.inline import WRITERS
from pipeline.store.artifact import Artifact
from pipeline.store.units import ArraySpec, Unit, row_units
from pipeline.store.writer import ArtifactWriter

DIM = 512
"""Width of the vectors that are written."""


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare vectors with NumPy files, in units of 128 images of 60 crops.

    They are written by as many threads as in a run.
    """
    block, units = 128, row_units(1024, 128)
    values = np.random.default_rng(0).random((block, N, DIM)).astype(np.float16)
    shape, chunks = (1024, N, DIM), (block, N, DIM)
    spec = ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")
    artifact, npy_folder = Artifact(case.folder / "vectors", "vectors"), case.folder / "plain"
    writer = ArtifactWriter(artifact)

    def write_unit(unit: Unit) -> None:
        written = writer.write(unit, {"embeddings": values})
        writer.commit(unit, block, written, {}, {})

    def write() -> None:
        writer.begin({})
        writer.create(spec)
        with ThreadPoolExecutor(WRITERS) as writers:  # as in a run
            list(writers.map(write_unit, units))
        writer.finalise([], {})

    def write_npy() -> None:
        npy_folder.mkdir()
        for unit in units:
            with open(npy_folder / f"{unit.name}.npy", "wb") as file:
                np.save(file, values)
                os.fsync(file.fileno())

    remove: dict[Work, Work] = {
        write: artifact.remove,
        write_npy: partial(shutil.rmtree, npy_folder, ignore_errors=True),
    }

    def seconds(work: Work) -> float:
        remove[work]()  # before the clock starts: writing is what is compared
        return seconds_of(work)

    size, what = values.nbytes * len(units) / 1e6, "writing vectors, against numpy.save and fsync"
    row = compare(what, write, write_npy, pairs, seconds=seconds)
    yield replace(row, note=f"{size / row.ours:,.0f} and {size / row.against:,.0f} MB/s")
    array = artifact.array("embeddings")
    row = compare(
        "reading vectors, against numpy.load",
        lambda: [array[unit.rows] for unit in units],
        lambda: [np.load(npy_folder / f"{unit.name}.npy") for unit in units],
        pairs,
    )
    yield replace(row, note=f"{size / row.ours:,.0f} and {size / row.against:,.0f} MB/s")
