"""Receipts are sealed when an artifact is finished: nothing is lost on the way, or believed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.damage import cut, delete, flip
from pipeline.core import files
from pipeline.core.errors import Damaged
from pipeline.core.hashing import digest
from pipeline.inspect.verify import Damage, damages, mark
from pipeline.store import sealed
from pipeline.store.artifact import Artifact
from pipeline.store.summary import LOOKS
from pipeline.store.units import ArraySpec, Unit, row_units
from pipeline.store.writer import ArtifactWriter
from tests.helpers.older import unseal
from tests.helpers.runs import Runner

IDENTITY = {"stage": "any"}
ROWS = 2
"""Rows of a unit."""


class Killed(BaseException):
    """The process ends here."""


def opened(folder: Path, name: str = "any") -> Artifact:
    """The artifact as a further process sees it."""
    return Artifact(folder / name / digest(IDENTITY), name)


def write(artifact: Artifact, units: list[Unit]) -> None:
    """Compute units: an array and a table, whose values follow from the unit."""
    writer = ArtifactWriter(artifact)
    if not artifact.path.is_dir():
        artifact.path.mkdir(parents=True)
        writer.begin(IDENTITY)
    rows = units[-1].rows.stop
    writer.create(ArraySpec("x", ("image", "dim"), (rows, 3), (ROWS, 3), "float16"))
    for unit in units:
        values = np.full((ROWS, 3), unit.rows.start % 2048, np.float16)
        paths = writer.write(unit, {"x": values, "t": pd.DataFrame({"row": [unit.rows.start]})})
        writer.commit(unit, ROWS, paths, {"compute": 1.0}, {"host": "h", "pid": 1, "code": "c"})


def finish(artifact: Artifact, units: list[Unit]) -> None:
    ArtifactWriter(artifact).finalise(units, {"identity": IDENTITY})


def damage(artifact: Artifact) -> list[Damage]:
    return list(damages(artifact, lambda size: None))


def units_of(count: int) -> list[Unit]:
    return row_units(ROWS * count, ROWS)


@contextmanager
def killed_at(step: int, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """End the process before its change number `step` to a folder; yields the changes made."""
    made: list[str] = []

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*words: Any, **named: Any) -> Any:
            if len(made) == step:
                raise Killed
            made.append(change.__name__)
            return change(*words, **named)

        return instead

    with patch.context() as inside:
        inside.setattr(os, "replace", counted(os.replace))
        inside.setattr(Path, "unlink", counted(Path.unlink))
        inside.setattr(files, "sync_folder", counted(files.sync_folder))
        yield made


def test_a_kill_at_any_step_of_sealing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = units_of(4)
    write(whole := opened(tmp_path / "whole"), units)
    finish(whole, units)
    expected, step, done = whole.manifest["digest"], 0, False
    while not done:
        artifact = opened(tmp_path / f"{step}")
        write(artifact, units)
        try:
            with killed_at(step, monkeypatch):
                finish(artifact, units)
            done = True
        except Killed:
            step += 1
        after = opened(tmp_path / f"{step - (not done)}")
        assert after.finished(units) == {unit.name for unit in units}
        assert not damage(after)
        finish(after, units)
        after = opened(after.path.parents[1])
        assert after.manifest["digest"] == expected
        assert after.missing(units) is None
        assert not after.ledger.loose()
    assert step > len(units) + 3  # two copies, a manifest, and every receipt of its own


def test_a_kill_while_more_units_are_sealed_leaves_those_before_to_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, step, done = units_of(5), 0, False
    while not done:
        folder = tmp_path / f"{step}"
        write(artifact := opened(folder), units[:3])
        finish(artifact, units[:3])
        write(artifact, units[3:])
        try:
            with killed_at(step, monkeypatch):
                finish(opened(folder), units)
            done = True
        except Killed:
            step += 1
        after = opened(folder)
        assert after.missing(units[:3]) is None
        assert after.finished(units) == {unit.name for unit in units}
        assert after.table("t")["row"].tolist()[:3] == [0, 2, 4]
        assert not damage(after)
        finish(opened(folder), units)
        assert opened(folder).table("t")["row"].tolist() == [0, 2, 4, 6, 8]


def test_a_kill_while_a_unit_is_forgotten_forgets_it_or_not_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, step, done = units_of(3), 0, False
    while not done:
        folder = tmp_path / f"{step}"
        write(artifact := opened(folder), units)
        finish(artifact, units)
        (artifact.path / "x.zarr" / "c" / "1" / "0").unlink()
        try:
            with killed_at(step, monkeypatch):
                opened(folder).forget([units[1].name])
            done = True
        except Killed:
            step += 1
        after = opened(folder)
        assert after.finished(units) == {units[0].name, units[2].name}
        mark(damage(after))
        assert not damage(opened(folder))
        write(opened(folder), [units[1]])
        finish(opened(folder), units)
        assert opened(folder).missing(units) is None
        assert not damage(opened(folder))


@pytest.mark.parametrize("hurt", [flip, cut, delete])
@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_copy_is_named_loses_no_unit_and_is_mended(
    tmp_path: Path, hurt: Callable[[Path, random.Random], None], place: int
) -> None:
    units = units_of(6)
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)
    copy = artifact.ledger.copies[place]
    content = copy.read_bytes()
    for seed in range(10):
        hurt(copy, random.Random(seed))
        (found,) = damage(opened(tmp_path))
        assert (found.artifact.path / found.file, found.unit) == (copy, None)
        assert opened(tmp_path).missing(units) is None
        assert len(opened(tmp_path).table("t")) == len(units)
        assert not mark([found])
        assert copy.read_bytes() == content
        assert not damage(opened(tmp_path))


def test_copies_damaged_in_different_lines_lose_no_unit(tmp_path: Path) -> None:
    units = units_of(6)
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)
    for copy, line in zip(artifact.ledger.copies, (1, 4), strict=True):
        lines = copy.read_bytes().split(b"\n")
        lines[line] = lines[line].replace(b'"rows":2', b'"rows":3')
        copy.write_bytes(b"\n".join(lines))
    after = opened(tmp_path)
    assert after.finished(units) == {unit.name for unit in units}
    assert [each.file for each in damage(after)] == [
        f"ledger/{c.name}" for c in after.ledger.copies
    ]
    mark(damage(after))
    assert not damage(opened(tmp_path))
    assert opened(tmp_path).missing(units) is None


def rewrite(artifact: Artifact, unit: str, change: Callable[[bytes], bytes], seal: bool) -> None:
    """Change the receipt of a unit in both copies, in its size; with `seal`, as if written so."""
    for copy in artifact.ledger.copies:
        texts = dict(sealed.receipts(copy.read_bytes()))
        if seal:
            copy.write_bytes(b"".join(sealed.lines(texts | {unit: change(texts[unit])})))
        else:
            copy.write_bytes(copy.read_bytes().replace(texts[unit], change(texts[unit])))


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("read", ["table", "array"])
def test_a_unit_that_both_copies_have_lost_is_computed_again(
    tmp_path: Path, seal: bool, read: str
) -> None:
    """Sizes are right, so that only a reader sees it; the next run has to know."""
    units = units_of(6)
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)

    def other(text: bytes) -> bytes:
        digits = json.loads(text)["files"]["t.parquet/00002.parquet"][1].rpartition(":")[2].encode()
        return text.replace(digits, digits[::-1])

    rewrite(artifact, units[2].name, other, seal)
    assert opened(tmp_path).missing(units) is None
    with pytest.raises(Damaged, match="is not what was written"):
        _ = opened(tmp_path).table("t") if read == "table" else opened(tmp_path).array("x")[:]
    assert opened(tmp_path).unfinished(units) == [units[2]]
    write(opened(tmp_path), [units[2]])
    finish(opened(tmp_path), units)
    assert len(opened(tmp_path).table("t")) == len(units)
    assert opened(tmp_path).missing(units) is None
    assert not damage(opened(tmp_path))


def test_a_receipt_of_its_own_beside_the_seal_is_looked_at(tmp_path: Path) -> None:
    """A run that was killed has computed a unit again, with another outcome or none."""
    units = units_of(4)
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)
    artifact.ledger.path(units[1].name).write_text("{}")
    assert opened(tmp_path).unfinished(units) == [units[1]]
    assert opened(tmp_path).missing(units) == "damaged (3 of 4 units)"


TEXTS = st.dictionaries(
    st.text("abcdef0123456789-", min_size=1), st.binary(min_size=1).filter(lambda b: b"\n" not in b)
)


@given(TEXTS, st.data())
def test_no_changed_byte_of_sealed_receipts_is_believed(
    receipts: dict[str, bytes], data: st.DataObject
) -> None:
    content = b"".join(sealed.lines(receipts))
    assert sealed.is_whole(content)
    assert sealed.receipts(content) == receipts
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert not sealed.is_whole(bytes(changed))
    found = sealed.receipts(bytes(changed))
    assert found.items() <= receipts.items()
    assert len(found) >= len(receipts) - 2  # the break between two lines costs both
    short = content[:place]
    assert not sealed.is_whole(short)
    assert sealed.receipts(short).items() <= receipts.items()


def test_an_older_artifact_is_read_as_it_is_and_sealed_by_the_next_run(
    run_of: Runner, made: Any
) -> None:
    stage = made.named("embeddings-raw")[0]
    artifact, units = made.store.artifact(stage), stage.units(made.store)
    before, vectors = made.store.open(stage).manifest["digest"], artifact.array("embeddings")[:]
    unseal(artifact)
    older = made.store.open(stage)
    assert older.missing(units) is None
    assert (older.array("embeddings")[:] == vectors).all()
    assert not damage(older)
    assert not older.ledger.sealed()
    (outcome,) = run_of().execute([stage], [], quiet=True)
    assert outcome.state == "cached"
    after = made.store.open(stage)
    assert (after.manifest["digest"], after.ledger.loose()) == (before, [])
    assert len(after.ledger.sealed()) == len(units)
    assert not damage(after)


def test_a_table_is_read_in_the_order_of_units_beyond_five_digits(tmp_path: Path) -> None:
    units = row_units(ROWS * 100_002, ROWS)[99_998:]
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)
    assert opened(tmp_path).table("t")["row"].tolist() == [unit.rows.start for unit in units]


def test_lost_metadata_of_the_group_is_named_once_an_artifact_is_sealed(tmp_path: Path) -> None:
    units = units_of(2)
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)
    group = artifact.path / "zarr.json"
    whole = group.read_bytes()
    group.unlink()
    found = damage(opened(tmp_path))
    assert [each.file for each in found] == ["zarr.json"]
    assert not mark(found)
    assert group.read_bytes() == whole
    unseal(artifact := opened(tmp_path))
    group.unlink()  # as versions left it that wrote none
    assert not damage(opened(tmp_path))
    ArtifactWriter(opened(tmp_path)).seal()
    assert group.read_bytes() == whole
    assert not damage(opened(tmp_path))


@contextmanager
def looks(patch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Yield the paths that are looked at, opened or listed meanwhile."""
    seen: list[Path] = []

    def noted(look: Callable[..., Any]) -> Callable[..., Any]:
        def instead(path: Path, *words: Any, **named: Any) -> Any:
            seen.append(path)
            return look(path, *words, **named)

        return instead

    with patch.context() as inside:
        for name in ("stat", "open", "iterdir"):
            inside.setattr(Path, name, noted(getattr(Path, name)))
        yield seen


def test_files_and_looks_of_a_finished_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are those of the units and a few more; as many looks whatever the number of units."""
    counts = []
    for count in (LOOKS, 3 * LOOKS):
        units, folder = units_of(count), tmp_path / f"{count}"
        write(artifact := opened(folder), units)
        finish(artifact, units)
        there = [path for path in artifact.path.rglob("*") if path.is_file()]
        assert len(there) <= 2 * count + 20
        with looks(monkeypatch) as seen:
            assert opened(folder).missing(units) is None
        counts.append(len(seen))
    assert counts[0] == counts[1] <= LOOKS + 5


def test_a_lost_folder_of_many_units_is_seen_without_looking_at_all(tmp_path: Path) -> None:
    units = units_of(5 * LOOKS)
    write(artifact := opened(tmp_path), units)
    finish(artifact, units)
    for unit in units[40:60]:
        (artifact.path / "x.zarr" / "c" / str(unit.rows.start // ROWS) / "0").unlink()
    assert opened(tmp_path).missing(units) == f"damaged ({len(units) - 20} of {len(units)} units)"
