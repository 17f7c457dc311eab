"""Comparisons of the store: vectors written and read, against NumPy files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.bench.case import Case, N
from pipeline.bench.timing import Row, compare, in_turns, seconds_of
from pipeline.engine.inline import WRITERS
from pipeline.store.artifact import Artifact
from pipeline.store.units import ArraySpec, Unit, row_units
from pipeline.store.writer import ArtifactWriter

DIM = 512
"""Width of the vectors that are written."""
IMAGES, BLOCK = 1024, 128
"""Images whose vectors are written, and those of a unit."""
UNITS = row_units(IMAGES, BLOCK)


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare vectors with NumPy files, in units of 128 images of 60 crops."""
    values = np.random.default_rng(0).random((BLOCK, N, DIM)).astype(np.float16)
    ours = _Stored(Artifact(case.folder / "vectors", "vectors"), values)
    saved = _Saved(case.folder / "plain", values)

    def writing(side: _Stored | _Saved) -> float:
        side.remove()  # before the clock starts: writing is what is compared
        return seconds_of(side.write)

    megabytes = values.nbytes * len(UNITS) / 1e6
    what = "writing vectors, against numpy.save and fsync"
    yield _rated(in_turns(what, lambda: writing(ours), lambda: writing(saved), pairs), megabytes)
    array = ours.artifact.array("embeddings")
    row = compare(
        "reading vectors, against numpy.load",
        lambda: [array[unit.rows] for unit in UNITS],
        lambda: [np.load(saved.file(unit)) for unit in UNITS],
        pairs,
    )
    yield _rated(row, megabytes)


def _rated(row: Row, megabytes: float) -> Row:
    """Note the rates of both sides."""
    rates = f"{megabytes / row.ours:,.0f} and {megabytes / row.against:,.0f} MB/s"
    return replace(row, note=rates)


@dataclass(frozen=True)
class _Stored:
    """Vectors in an artifact, the same for every unit."""

    artifact: Artifact
    values: np.ndarray

    def write(self) -> None:
        """Write all units, by as many threads as in a run."""
        writer, view = ArtifactWriter(self.artifact), self.values.shape[1:]
        dims, chunks = ("image", "view", "dim"), (BLOCK, *view)
        writer.begin({})
        writer.create(ArraySpec("embeddings", dims, (IMAGES, *view), chunks, "float16"))

        def write_unit(unit: Unit) -> None:
            written = writer.write(unit, {"embeddings": self.values})
            writer.commit(unit, BLOCK, written, {}, {})

        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(write_unit, UNITS))
        writer.finalise([], {})

    def remove(self) -> None:
        self.artifact.remove()


@dataclass(frozen=True)
class _Saved:
    """Vectors in NumPy files, the same for every unit."""

    folder: Path
    values: np.ndarray

    def file(self, unit: Unit) -> Path:
        return self.folder / f"{unit.name}.npy"

    def write(self) -> None:
        """Write all units."""
        self.folder.mkdir()
        for unit in UNITS:
            with self.file(unit).open("wb") as file:
                np.save(file, self.values)
                os.fsync(file.fileno())

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
