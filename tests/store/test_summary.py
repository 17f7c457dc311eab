"""Manifests and readers of many units hold little of their receipts at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.errors import Damaged
from pipeline.store import artifact as store
from pipeline.store.artifact import Artifact
from pipeline.store.units import Unit, row_units
from pipeline.store.writer import ArtifactWriter

IDENTITY = {"stage": "any"}
TURNS = "abc"
"""Turns in which memory is measured: in one or other, libraries take some for themselves."""


def begun(folder: Path, units: list[Unit]) -> Artifact:
    """An artifact whose units are computed: a table of one row each."""
    artifact = Artifact(folder / "any" / "0123456789abcdef", "any")
    artifact.path.mkdir(parents=True)
    writer = ArtifactWriter(artifact)
    writer.begin(IDENTITY)
    for unit in units:
        written = writer.write(unit, {"t": pd.DataFrame({"row": [unit.rows.start], "x": [1.5]})})
        writer.commit(unit, 1, written, {"compute": 1.0}, {"host": "h", "pid": 1, "code": "c"})
    return artifact


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes of Python objects that some work holds beyond those before it."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_receipts_are_held_as_text_while_a_manifest_is_written(tmp_path: Path) -> None:
    units = row_units(600, 1)
    peaks = []
    for name in TURNS:
        artifact = begun(tmp_path / name, units)
        peaks.append(peak(partial(ArtifactWriter(artifact).finalise, units[:1], {})))
        assert Artifact(artifact.path, "any").missing(units) is None
    assert min(peaks) / len(units) < 1500  # 2,800 with an object for each receipt


def test_a_reader_holds_a_checksum_of_each_file_and_no_receipts(tmp_path: Path) -> None:
    units = row_units(600, 1)
    peaks = []
    for name in TURNS:
        artifact = begun(tmp_path / name, units)
        ArtifactWriter(artifact).finalise(units, {})
        reader = Artifact(artifact.path, "any")
        reader.ledger.sealed()
        peaks.append(peak(partial(reader.table, "t", units[0])))
    assert min(peaks) / len(units) < 1800


@pytest.mark.parametrize("piece", [1, 3, 7, 100])
def test_pieces_of_a_table_are_its_rows_in_order(
    tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PIECE", piece)
    units = row_units(7, 1)
    artifact = begun(tmp_path, units)
    ArtifactWriter(artifact).finalise(units, {})
    pieces = list(artifact.pieces("t", ["row"]))
    assert [len(each) for each in pieces] == [piece] * (7 // piece) + [7 % piece] * (7 % piece > 0)
    assert [row for each in pieces for row in each["row"]] == list(range(7))
    whole = pd.DataFrame({"row": range(7), "x": 1.5})
    pd.testing.assert_frame_equal(artifact.table("t"), whole)


def test_a_damaged_piece_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PIECE", 2)
    units = row_units(5, 1)
    artifact = begun(tmp_path, units)
    ArtifactWriter(artifact).finalise(units, {})
    (artifact.path / "t.parquet" / f"{units[3].name}.parquet").write_bytes(b"no table")
    pieces = artifact.pieces("t")
    assert next(pieces)["row"].tolist() == [0, 1]
    with pytest.raises(Damaged, match=units[3].name):
        next(pieces)
    left = Artifact(artifact.path, "any").finished(units)
    assert left == {unit.name for unit in units} - {units[3].name}
