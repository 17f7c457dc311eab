"""The store never shows the unfinished, redoes only what is missing, and repeats itself exactly."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from pipeline.core import files
from pipeline.core.errors import AbsError, Damaged, MissingInput, UnitsFailed
from pipeline.core.progress import Reporter
from pipeline.engine.inline import InlineSession
from pipeline.engine.runner import run_stage
from pipeline.inspect.status import plan, states
from pipeline.run import Run
from pipeline.store.artifact import Artifact
from pipeline.store.units import ArraySpec, Unit
from pipeline.store.writer import ArtifactWriter
from tests.helpers.checksums import content_of
from tests.helpers.forked import start_abs
from tests.helpers.older import unseal
from tests.helpers.runs import DEMO, Runner, digests, make_all

STAGES = [
    "index", "descriptions-clip", "descriptions-clip-d", "descriptions-clip-e", "descriptions-cupl",
    "descriptions-waffle", "attention", "crops-raw", "crops-feature", "crops-windows",
    "crops-squares", "embeddings-image", "embeddings-raw", "embeddings-feature",
    "embeddings-squares", "scores", "metrics",
]  # fmt: skip
ALL = "scores.methods=null"


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_another_store_gets_the_same_digests(
    run_of: Runner, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first store has some of the stages from a run of fewer methods."""
    first = make_all(run_of(ALL))
    again = run_of(ALL)
    outcomes = again.execute(again.stages, [], quiet=True)
    assert {o.stage: o.state for o in outcomes} == dict.fromkeys(STAGES, "cached")
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "elsewhere"))
    assert make_all(run_of(ALL)) == first


@pytest.mark.parametrize("stage", ["embeddings-raw", "scores", "index"])
def test_a_deleted_file_is_seen_by_status_and_run_without_being_read(
    run_of: Runner, made: Run, stage: str
) -> None:
    before, artifact = digests(made), made.store.artifact(made.named(stage)[0])
    units = made.named(stage)[0].units(made.store)
    receipt = artifact.ledger.read(units[-1].name)
    assert receipt
    (artifact.path / next(iter(receipt.files))).unlink()
    run = run_of()
    (state,) = states(run.store, run.named(stage))
    assert state["state"] == f"damaged ({len(units) - 1} of {len(units)} units)"
    (planned,) = plan(run.store, run.named(stage))
    assert planned["todo"] == 1
    outcomes = run.execute(run.stages, [], quiet=True)
    assert {o.stage: o.computed for o in outcomes if o.state != "cached"} == {stage: 1}
    assert digests(made) == before


@pytest.mark.slow
def test_a_deleted_artifact_alone_is_rebuilt_with_the_same_digest(
    run_of: Runner, made: Run
) -> None:
    before = digests(made)
    for stage in made.stages:
        made.store.artifact(stage).remove()
        fresh = run_of()
        outcomes = fresh.execute(fresh.stages, [], quiet=True)
        assert [o.stage for o in outcomes if o.state != "cached"] == [stage.name]
        assert digests(fresh) == before


def test_readers_refuse_an_artifact_without_manifest_and_name_the_command(made: Run) -> None:
    crops = made.named("crops-raw")[0]
    (made.store.artifact(crops).path / "manifest.json").unlink()
    with pytest.raises(MissingInput, match=r"partial \(6 of 6 units\).*abs crops raw --dataset"):
        made.store.open(crops)
    with pytest.raises(MissingInput):
        made.store.artifact(crops).table("crops")


@pytest.mark.slow
def test_a_lost_receipt_costs_one_unit_and_ends_with_the_same_digest(
    run_of: Runner, made: Run
) -> None:
    before = digests(made)
    names = {"attention", "scores"} | {
        name for name in before if name.startswith(("crops", "embeddings"))
    }
    for name in sorted(names):
        artifact = made.store.artifact(made.named(name)[0])
        unseal(artifact)
        artifact.ledger.path(artifact.ledger.units()[1]).unlink()
        (artifact.path / "manifest.json").unlink()
        fresh = run_of()
        outcome = run_stage(fresh.named(name)[0], fresh.store, Reporter(True), fresh.settings)
        assert (outcome.state, outcome.computed) == ("computed", 1)
        assert digests(fresh) == before


def stored_chunks(run: Run, stage: str) -> dict[Path, bytes]:
    """Files of a stage's array."""
    folder = run.store.artifact(run.named(stage)[0]).path
    return {p: p.read_bytes() for p in folder.rglob("c/*/*/*") if p.is_file()}


def test_weights_that_change_while_a_stage_runs_are_noticed(run_of: Runner, tmp_path: Path) -> None:
    model = tmp_path / "clip"
    shutil.copytree(DEMO / "models" / "clip", model)
    run = run_of(f"clip.model=local-dir:{model}")
    stage = run.named("embeddings-image")[0]
    _ = [each.key for each in run.stages]
    weights = next(model.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run.execute(run.named("index"), [], quiet=True)
    with pytest.raises(AbsError, match="changed while it ran"):
        run_stage(stage, run.store, Reporter(True), run.settings)
    assert not (run.store.artifact(stage).path / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_units_in_any_order_give_the_same_digests(
    run_of: Runner, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, claimed = random.Random(seed), InlineSession._claimed

    def shuffled(self: InlineSession, todo: list[Unit]) -> Iterator[Unit]:
        return claimed(self, rng.sample(todo, len(todo)))

    monkeypatch.setattr(InlineSession, "_claimed", shuffled)
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "shuffled"))
    assert make_all(run_of()) == digests(made)


@pytest.mark.slow
def test_another_batch_size_moves_values_by_rounding_and_is_on_record(
    run_of: Runner, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "one"))
    one = run_of("runtime.batch_size=1")
    make_all(one)
    for name in ("embeddings-image", "embeddings-raw", "embeddings-feature"):
        found, before = (run.store.open(run.named(name)[0]) for run in (one, made))
        values, others = (each.array("embeddings")[:].astype(float) for each in (found, before))
        assert np.abs(values - others).max() <= 2.0**-11
        sizes = [each.manifest["makers"][0]["batch_size"] for each in (found, before)]
        assert sizes == [1, made.settings.runtime.batch_size]
        assert found.manifest["makers"][0]["device"] == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("encode", ["all", "drawn"])
def test_a_larger_n_adds_blocks_and_leaves_the_first_crops_as_they_were(
    run_of: Runner, encode: str
) -> None:
    small = run_of(f"windows.encode={encode}")
    make_all(small)
    first = stored_chunks(small, "embeddings-raw") | stored_chunks(small, "embeddings-feature")
    assert len(first) == 6 + (3 if encode == "all" else 6)
    scores = small.store.open(small.named("scores")[0]).table("scores")
    large = run_of(f"windows.encode={encode}", "scores.n=7")
    outcomes = {o.stage: o for o in large.execute(large.stages, [], quiet=True)}
    grown = ["crops-raw", "crops-feature", "embeddings-raw"]
    grown += ["embeddings-feature"] if encode == "drawn" else []
    for name in grown:
        assert (outcomes[name].units, outcomes[name].computed) == (12, 6)
    cached = {o.stage for o in outcomes.values() if o.state == "cached"}
    assert cached == set(outcomes) - {*grown, "scores", "metrics"}
    assert {p: p.read_bytes() for p in first} == first
    array = large.store.open(large.named("embeddings-raw")[0]).array("embeddings")
    assert array.shape[:2] == (8, 8)
    assert np.isfinite(np.asarray(array[:])).all()
    probs = large.store.open(large.named("crops-feature")[0]).table("patch_probs")
    assert not probs.duplicated(["image", "rank"]).any()
    again = run_of(f"windows.encode={encode}")
    assert again.store.open(again.named("scores")[0]).table("scores").equals(scores)


def test_a_smaller_n_is_only_read(run_of: Runner, made: Run) -> None:
    run = run_of("scores.n=3")
    outcomes = run.execute(run.stages, [], quiet=True)
    assert [o.stage for o in outcomes if o.state != "cached"] == ["scores", "metrics"]


@pytest.mark.slow
def test_a_larger_pool_of_squares_adds_blocks(run_of: Runner) -> None:
    wca = "scores.methods=[wca]"
    make_all(run_of(wca))
    run = run_of(wca, "methods.wca.pool=6")
    outcomes = {o.stage: o for o in run.execute(run.stages, [], quiet=True)}
    for name in ("crops-squares", "embeddings-squares"):
        assert (outcomes[name].units, outcomes[name].computed) == (9, 3)
    fewer = run_of(wca, "methods.wca.pool=2")
    computed = [o.stage for o in fewer.execute(fewer.stages, [], quiet=True) if o.computed]
    assert computed == ["scores", "metrics"]


def test_another_seed_embeds_no_window_again(run_of: Runner, made: Run) -> None:
    run = run_of("crops.seed=1", "crops.temperature=1.0", "scores.raw=false")
    outcomes = run.execute(run.stages, [], quiet=True)
    computed = [o.stage for o in outcomes if o.computed]
    assert computed == ["crops-feature", "scores", "metrics"]


def test_a_failing_unit_is_recorded_never_cached_and_the_others_are_kept(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.crops import RawWorker

    run, crops = made, made.named("crops-raw")[0]
    whole = run.store.open(crops).manifest["digest"]
    run.store.artifact(crops).remove()
    compute = RawWorker.compute

    def broken(self: RawWorker, unit: Any, inputs: Any) -> Any:
        if unit.name == "00001-000":
            raise ValueError("no such luck")
        return compute(self, unit, inputs)

    monkeypatch.setattr(RawWorker, "compute", broken)
    with pytest.raises(UnitsFailed, match=r"1 unit failed.*00001-000.*no such luck"):
        run_stage(crops, run.store, Reporter(True), run.settings)
    artifact = run.store.artifact(crops)
    assert not (artifact.path / "manifest.json").exists()
    assert "no such luck" in (artifact.path / "failures" / "00001-000.txt").read_text()
    assert len(list((artifact.path / "ledger").iterdir())) == 5
    monkeypatch.setattr(RawWorker, "compute", compute)
    outcome = run_stage(crops, run.store, Reporter(True), run.settings)
    assert outcome.computed == 1
    assert not list((artifact.path / "failures").iterdir())
    assert run.store.open(crops).manifest["digest"] == whole


def test_an_image_that_vanishes_is_one_clear_line(run_of: Runner) -> None:
    run = run_of()
    run.execute(run.named("index"), [], quiet=True)
    root = Path(run.settings.dataset.root[0])
    gone = sorted(root.rglob("*.*g"))[0]
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(AbsError, match=f"No such file or directory.*{gone.name}"):
        run_stage(run.named("attention")[0], run.store, Reporter(True), run.settings)
    gone.write_bytes(content)


def test_a_dataset_that_changed_is_another_dataset(run_of: Runner) -> None:
    before = {stage.name: stage.key for stage in run_of().stages}
    image = sorted(Path(run_of().settings.dataset.root[0]).rglob("*.png"))[0]
    image.write_bytes(image.read_bytes() + b"\0")
    after = {stage.name: stage.key for stage in run_of().stages}
    same = {name for name in before if before[name] == after[name]}
    assert same == {"descriptions-clip", "descriptions-cupl"}


@pytest.mark.slow
def test_unreadable_images_are_skipped_with_their_reason_up_to_the_limit(run_of: Runner) -> None:
    root = Path(run_of().settings.dataset.root[0])
    broken = sorted(root.rglob("*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:200])
    run = run_of()
    with pytest.raises(AbsError, match=r"^1 of 8 images cannot be read.*index\.max_skipped"):
        run.execute(run.named("index"), [], quiet=True)
    run = run_of("index.max_skipped=0.2")
    make_all(run)
    index = run.store.open(run.named("index")[0])
    assert index.table("skipped")["file"].tolist() == [broken.relative_to(root).as_posix()]
    assert "truncated" in index.table("skipped")["reason"][0].lower()
    assert len(run.store.open(run.named("scores")[0]).table("scores")) == 7 * 3


@pytest.mark.slow
@pytest.mark.subprocess
def test_kill_9_in_the_middle_of_a_stage_loses_at_most_the_unit_in_flight(
    run_of: Runner, made: Run, tiny: Path
) -> None:
    before = digests(made)
    raw = made.store.artifact(made.named("embeddings-raw")[0])
    raw.remove()
    words = "run", "--dataset", tiny, "--set", "scores.n=4"
    process = start_abs(*words, output=tiny.parent / "output")
    ledger = raw.path / "ledger"
    while process.is_alive() and not (ledger.is_dir() and any(ledger.glob("*.json"))):
        time.sleep(0.002)
    process.kill()
    process.join()
    kept = raw.ledger.stored()
    fresh = run_of()
    outcome = run_stage(
        fresh.named("embeddings-raw")[0], fresh.store, Reporter(True), fresh.settings
    )
    assert kept
    assert outcome.computed == 6 - len(kept)
    again = raw.ledger.stored()
    assert kept == {unit: again[unit] for unit in kept}
    assert digests(fresh) == before


def test_an_array_grows_and_never_shrinks(tmp_path: Path) -> None:
    writer = ArtifactWriter(Artifact(tmp_path, "any"))
    writer.begin({})
    for count, expected in ((4, 4), (6, 6), (2, 6)):
        spec = ArraySpec("x", ("image", "crop"), (3, count), (3, 2), "float16", {"names": ["a"]})
        writer.create(spec)
        array = zarr.open_array(tmp_path / "x.zarr", mode="r")
        assert (array.shape, array.attrs["names"]) == ((3, expected), ["a"])
    for crops in (slice(0, 2), slice(4, 6)):
        unit = Unit("u", slice(0, 3), crops)
        ((written, content),) = writer.write(unit, {"x": np.ones((3, 2), np.float16)}).items()
        path = tmp_path / written
        assert content == content_of(path)
    found = np.asarray(zarr.open_array(tmp_path / "x.zarr", mode="r")[:])
    assert np.isnan(found[:, 2:4]).all()
    assert (found[:, [0, 1, 4, 5]] == 1).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_no_value_is_stored_that_is_no_number(tmp_path: Path, dtype: str) -> None:
    writer, unit = ArtifactWriter(Artifact(tmp_path, "any")), Unit("u", slice(0, 3))
    writer.begin({})
    writer.create(ArraySpec("x", ("image", "dim"), (3, 4), (3, 4), dtype))
    most = float(np.finfo(dtype).max)
    good = np.array([[0.0, -0.0, most, -most]] * 3, dtype)
    assert writer.write(unit, {"x": good})
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        values = good.copy()
        values[1, 2] = bad
        with pytest.raises(AbsError, match="NaN or infinite"):
            writer.write(unit, {"x": values})


def test_a_damaged_manifest_is_none_and_is_written_again(run_of: Runner, made: Run) -> None:
    before, crops = digests(made), made.store.artifact(made.named("crops-raw")[0])
    whole = (crops.path / "manifest.json").read_text()
    for content in ("", "[]", "{}", whole.replace('"rows"', '"Rows"'), whole + " "):
        (crops.path / "manifest.json").write_text(content)
        fresh = run_of()
        with pytest.raises(AbsError, match=r"damaged \(6 of 6 units\)"):
            fresh.store.open(fresh.named("crops-raw")[0])
        outcomes = {o.stage: o for o in fresh.execute(fresh.stages, [], quiet=True)}
        assert (outcomes["crops-raw"].state, outcomes["crops-raw"].computed) == ("computed", 0)
        assert digests(fresh) == before


def test_results_do_not_depend_on_where_the_images_lie(
    run_of: Runner, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {stage.name: stage.key for stage in run_of().stages}
    moved = tmp_path / "moved"
    (tmp_path / "images").rename(moved)
    after = {stage.name: stage.key for stage in run_of(f"dataset.root={moved}").stages}
    assert after == before


@pytest.mark.parametrize("last", [{"z": "end"}, {"b": {"seal": "0" * 32}}, {}])
def test_what_was_seen_to_be_whole_is_looked_at_again(tmp_path: Path, last: dict[str, Any]) -> None:
    """Whatever bytes a sealed file had before, those it has now decide."""
    path, value = tmp_path / "sealed.json", {"a": [1, 2], **last}
    files.write_sealed(path, value)
    whole = path.read_bytes()
    for place, byte in enumerate(whole):
        assert files.read_sealed(path, "it") == value
        path.write_bytes(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])
        with pytest.raises(Damaged, match="it is damaged"):
            files.read_sealed(path, "it")
        path.write_bytes(whole)
    for wrong in (
        whole[:-1],
        whole + b"\n",
        whole.replace(b"{\n", b'{\n "seal": "%b",\n' % (b"0" * 32), 1),
    ):
        path.write_bytes(wrong)
        with pytest.raises(Damaged, match="it is damaged"):
            files.read_sealed(path, "it")
    path.write_bytes(whole)
    files.read_sealed(path, "it")["a"].append(3)
    assert files.read_sealed(path, "it")["a"] == [1, 2]


def test_a_table_that_a_stage_does_not_write_is_refused_and_nothing_is_forgotten(made: Run) -> None:
    index = made.store.open(made.named("index")[0])
    with pytest.raises(AbsError, match="index has no table 'classes'"):
        index.table("classes")
    assert made.store.open(made.named("index")[0]).table("images").shape[0] == 8


def test_a_unit_is_on_the_disk_before_its_receipt_and_read_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, unit = ArtifactWriter(Artifact(tmp_path, "any")), Unit("u", slice(0, 3))
    writer.begin({})
    writer.create(ArraySpec("x", ("image", "dim"), (3, 4), (3, 4), "float32"))
    outputs = {"x": np.ones((3, 4), np.float32), "t": pd.DataFrame({"a": range(3)})}
    writer.write(unit, outputs)  # which reads how the array is described
    kept: dict[int, int] = {}
    named = []
    fsync, replace = os.fsync, os.replace

    def keep(file: int) -> None:
        fsync(file)
        kept[os.fstat(file).st_ino] = os.fstat(file).st_size

    def name(old: Path, new: Path) -> None:
        stat = os.stat(old)
        assert kept[stat.st_ino] == stat.st_size > 0
        replace(old, new)
        named.append(str(new.relative_to(tmp_path)))

    def read(*words: object) -> None:
        raise AssertionError("what was just written is not read again")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", keep)
        patch.setattr(os, "replace", name)
        patch.setattr(Path, "read_bytes", read)
        patch.setattr(Path, "open", read)
        written = writer.write(unit, outputs)
        writer.commit(unit, 3, written, {"write": 0.1}, {"host": "h"})
    assert named == ["x.zarr/c/0/0", "t.parquet/u.parquet", "ledger/u.json"]
    paths = {file: tmp_path / file for file in written}
    assert written == {file: content_of(path) for file, path in paths.items()}
    assert writer.artifact.ledger.is_finished("u")
    pd.testing.assert_frame_equal(pd.read_parquet(paths["t.parquet/u.parquet"]), outputs["t"])


def test_a_full_disk_stops_a_chunk_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(tmp_path / "c", memoryview(b"values"))
    assert not list(tmp_path.iterdir())
