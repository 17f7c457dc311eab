"""Results are found by their settings, and what is not unique is asked about."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pandas as pd
import pytest
import webdataset
from PIL import Image

from pipeline import load
from pipeline.core.errors import AbsError, ConfigError, Damaged, MissingInput
from pipeline.inspect.status import states
from pipeline.run import Run
from tests.helpers import shared
from tests.helpers.runs import DEMO, Runner, digests, make_all, said, write_dataset


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three runs on record: as it is, colder, and with other crops."""

    def make(folder: Path) -> None:
        dataset = str(write_dataset(folder))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
            for changes in ([], ["scores.temperature=0.5"], ["crops.k=7"]):
                make_all(Run.of(dataset, "official", ["scores.n=4", *changes]))

    return shared.once(tmp_path_factory, "recorded", make) / "store"


@pytest.fixture
def store(run_of: Runner, recorded: Path, tmp_path: Path) -> Path:
    """The same, in a store of its own."""
    return shutil.copytree(recorded, tmp_path / "store")


@pytest.mark.slow
def test_every_run_is_a_row_with_its_settings(store: Path) -> None:
    found = load.runs()
    assert len(found) == 3
    assert found["crops.k"].tolist().count(7) == 1
    assert len(load.runs("tiny", **{"crops.k": 20})) == 2
    assert not [name for name in found if name.startswith(("paths.", "runtime."))]


def test_metrics_have_the_settings_that_differ(store: Path) -> None:
    found = load.metrics("tiny")
    assert len(found) == 9
    differing = ["crops.k", "scores.temperature"]
    assert found.groupby(differing).size().tolist() == [3, 3, 3]
    one = load.metrics(**{"crops.k": 7})
    assert one["method"].tolist() == ["clip", "cupl", "abs"]
    per_class = load.per_class("tiny", **{"crops.k": 7})
    assert len(per_class) == 3 * 2


def test_scores_are_a_row_per_image_and_method(run_of: Runner, store: Path) -> None:
    found = load.scores("tiny", method="abs", **{"crops.k": 7})
    run = run_of("crops.k=7")
    stored = run.store.open(run.named("scores")[0]).table("scores")
    stored = stored[stored["method"] == "abs"].reset_index(drop=True)
    assert found[list(stored)].equals(stored)
    assert len(load.scores("tiny", "abs")) == 3 * 8
    assert set(load.scores("tiny")["method"]) == {"clip", "cupl", "abs"}


def test_arrays_are_open_and_belong_to_the_index(
    run_of: Runner, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("crops.k=7")
    raw = run.store.open(run.named("embeddings-raw")[0]).array("embeddings")
    assert (np.asarray(load.embeddings("tiny", **{"crops.k": 7})[:]) == raw[:]).all()
    assert load.attention("tiny").shape[0] == len(load.images("tiny")) == 8
    assert load.embeddings("tiny", "image").shape[:2] == (8, 1)
    assert len(load.crops("tiny", "raw", **{"crops.k": 7})) == 8 * 4
    monkeypatch.delenv("ABS_ARTIFACTS")
    assert load.embeddings("tiny", "image", store=store).shape[:2] == (8, 1)


def test_what_is_not_one_or_not_there_is_said(store: Path) -> None:
    with pytest.raises(
        ConfigError, match=re.escape("2 runs of 'tiny' have embeddings-raw; choose")
    ):
        load.embeddings("tiny", "raw")
    with pytest.raises(ConfigError, match=r"unknown setting 'crops.kk'; did you mean 'crops.k'"):
        load.scores("tiny", **{"crops.kk": 1})
    with pytest.raises(ConfigError, match=r"no run of dataset 'tony'.*did you mean 'tiny'"):
        load.metrics("tony")
    with pytest.raises(ConfigError, match="method 'abc' is not scored; did you mean 'abs'"):
        load.scores("tiny", "abc")
    with pytest.raises(MissingInput, match=r"has scores with {'crops.k': 3}"):
        load.scores("tiny", **{"crops.k": 3})
    with pytest.raises(MissingInput, match="has embeddings-squares with any settings"):
        load.embeddings("tiny", "squares")


def test_what_is_not_finished_is_left_out(run_of: Runner, store: Path) -> None:
    run = run_of("crops.k=7")
    (run.store.artifact(run.named("scores")[0]).path / "manifest.json").unlink()
    assert len(load.scores("tiny", "abs")) == 2 * 8


def test_metrics_of_a_run_are_what_identifies_it_and_figures(store: Path) -> None:
    one, every = (
        load.metrics("tiny", all_settings=all_, **{"crops.k": 7}) for all_ in (False, True)
    )
    assert list(one)[:2] == ["dataset", "method"]
    assert "top1" in one
    assert not [name for name in one if "." in name]
    assert len(one.columns) <= 20 < len(every.columns)
    assert one.equals(every[list(one)])
    assert every["crops-raw.k"].tolist() == [7, 7, 7]
    assert list(load.metrics("tiny"))[:4] == ["dataset", "method", "crops.k", "scores.temperature"]


def test_metrics_of_equal_settings_are_told_apart_by_the_files_behind_them(
    tiny: Path, made: Run
) -> None:
    prompts = tiny.parent / "cupl.json"
    by_class = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    for opening in ("", "Surely "):
        changed = {name: [opening + t for t in texts] for name, texts in by_class.items()}
        prompts.write_text(json.dumps(changed))
        changes = ["scores.n=4", f"descriptions.cupl.file={prompts}"]
        make_all(Run.of(str(tiny), "official", changes))
    found = load.metrics("tiny", **{"descriptions.cupl.file": str(prompts)})
    assert list(found)[2:3] == ["descriptions-cupl.prompts.file_sha256"]
    assert found.iloc[:, :3].duplicated().sum() == 0


def test_classes_and_confusion_belong_together(store: Path) -> None:
    run = {"crops.k": 7}
    classes, found = load.classes("tiny", **run), load.confusion("tiny", **run)
    assert classes["label"].tolist() == list(range(len(classes)))
    scores = load.scores("tiny", "abs", **run)
    for label, pred in {*zip(scores["label"], scores["pred"], strict=True)}:
        row = found[(found.method == "abs") & (found.label == label) & (found.pred == pred)]
        assert row["images"].tolist() == [((scores.label == label) & (scores.pred == pred)).sum()]
    assert found.groupby("method")["images"].sum().tolist() == [8, 8, 8]
    folders = sorted(path.name for path in (store.parent / "images").iterdir())
    assert [name.replace(" ", "_").lower() for name in classes["name"]] == [
        name.lower() for name in folders
    ]


def test_an_image_is_found_by_its_row_its_path_and_its_scores(tiny: Path, store: Path) -> None:
    index = load.images("tiny")
    for row, path in enumerate(index["path"]):
        with Image.open(tiny.parent / "images" / path) as file:
            pixels = np.asarray(file.convert("RGB"))
        assert (np.asarray(load.image("tiny", row)) == pixels).all()
        assert (np.asarray(load.image("tiny", path)) == pixels).all()
    scores = load.scores("tiny", "abs", **{"crops.k": 7})
    for which in (scores.iloc[5], next(scores[5:].itertuples()), index.iloc[5]):
        assert (np.asarray(load.image("tiny", which)) == pixels_of(tiny, index, 5)).all()
    name = index["path"][5].partition("/")[2]
    if index["path"].str.endswith("/" + name).sum() == 1:
        assert (np.asarray(load.image("tiny", name)) == pixels_of(tiny, index, 5)).all()


def pixels_of(tiny: Path, index: pd.DataFrame, row: int) -> np.ndarray:
    with Image.open(tiny.parent / "images" / index["path"][row]) as file:
        return np.asarray(file.convert("RGB"))


def test_an_image_that_is_not_there_is_one_line(store: Path) -> None:
    with pytest.raises(ConfigError, match="no image 8; images are numbered from 0 to 7"):
        load.image("tiny", 8)


def test_an_image_that_changed_is_never_shown(tiny: Path, made: Run) -> None:
    made.execute(made.named("index"), [], quiet=True)
    path = tiny.parent / "images" / load.images("tiny")["path"][0]
    Image.new("RGB", (9, 9)).save(path, "PNG")
    with pytest.raises(AbsError, match="changed since it was indexed"):
        load.image("tiny", 0)


def test_images_of_packed_datasets_are_read(tiny: Path, tmp_path: Path) -> None:
    colours = [(10 * n, 200 - 20 * n, 90) for n in range(4)]
    columns: dict[str, list[Any]] = {"image": [], "label": [0, 1, 0, 1]}
    for colour in colours:
        Image.new("RGB", (30, 20), colour).save(file := io.BytesIO(), "PNG")
        columns["image"].append({"bytes": file.getvalue(), "path": None})
    names = datasets.ClassLabel(names=["wren", "crane"])
    features = datasets.Features({"image": datasets.Image(), "label": names})
    table = datasets.Dataset.from_dict(columns).cast(features)
    table.to_parquet(tmp_path / "birds.parquet")
    (tmp_path / "shards").mkdir()
    with webdataset.TarWriter(str(tmp_path / "shards" / "0.tar")) as shard:
        for n, image in enumerate(columns["image"]):
            label = columns["label"][n]
            shard.write({"__key__": f"s{n}", "png": image["bytes"], "cls": label})
    (tmp_path / "names.json").write_text('["wren", "crane"]')
    for name, reader, more in (
        ("birds.parquet", "huggingface", []),
        ("shards", "webdataset", [f"dataset.names={tmp_path / 'names.json'}"]),
    ):
        place = [f"dataset.root={tmp_path / name}", f"dataset.reader={reader}", *more]
        run = Run.of(str(tiny), "official", [*place, f"dataset.name={reader}"])
        run.execute(run.named("index"), [], quiet=True)
        for row, colour in enumerate(colours):
            assert load.image(reader, row).getpixel((5, 5)) == colour


def test_a_sweep_is_read_by_its_name(store: Path) -> None:
    folder = store / "tiny" / "sweeps"
    with pytest.raises(MissingInput, match="no sweep of dataset 'tiny'"):
        load.sweep("tiny")
    folder.mkdir()
    for n, name in enumerate(("k", "n")):
        pd.DataFrame({"top1": [0.5 + n / 4]}).to_parquet(folder / f"{name}.parquet")
        if n == 0:
            assert load.sweep("tiny")["top1"].tolist() == [0.5]
    assert load.sweep("tiny", "n")["top1"].tolist() == [0.75]
    with pytest.raises(ConfigError, match=r"2 sweeps of 'tiny'; choose by name: k, n"):
        load.sweep("tiny")
    with pytest.raises(ConfigError, match="no sweep 'm' of 'tiny'"):
        load.sweep("tiny", "m")


# --- Damage ---------------------------------------------------------------------------------------


def stored(run: Run, stage: str) -> Path:
    """The folder of a stage's only array."""
    (folder,) = run.store.artifact(run.named(stage)[0]).path.glob("*.zarr")
    return folder


def computed(run: Run) -> dict[str, int]:
    """The units that a further run computes, by stage."""
    outcomes = run.execute(run.stages, [], quiet=True)
    return {outcome.stage: outcome.computed for outcome in outcomes if outcome.computed}


@pytest.mark.parametrize("lost", [0, 1])
def test_one_damaged_chunk_is_named_on_every_call_and_the_others_are_read(
    run_of: Runner, made: Run, lost: int
) -> None:
    before, whole = digests(made), load.embeddings("tiny")[:]
    chunk = stored(made, "embeddings-raw") / "c" / "2" / "1" / "0"
    content = bytearray(chunk.read_bytes())
    content[7] ^= 1
    chunk.unlink() if lost else chunk.write_bytes(content)
    again = re.escape(f"abs run {load.runs('tiny')['options'][0]}")
    kept = load.embeddings("tiny")
    for array in (kept, load.embeddings("tiny"), kept):
        with pytest.raises(Damaged, match=f"c/2/1/0 is not what was written; .* by {again}$"):
            array[7, 3]
        assert np.array_equal(array[:6], whole[:6])
        assert np.array_equal(array[:, :2], whole[:, :2])
    (state,) = states(made.store, made.named("embeddings-raw"))
    assert state["state"] == "damaged (5 of 6 units)"
    assert computed(run_of()) == {"embeddings-raw": 1}
    assert digests(made) == before
    assert np.array_equal(kept[:], whole)


ARRAYS = {
    "embeddings-raw": partial(load.embeddings, view="raw"),
    "attention": load.attention,
    "descriptions-cupl": load.text_embeddings,
}


@pytest.mark.parametrize("first", ["read", "verify", "run"])
@pytest.mark.parametrize("stage", ARRAYS)
def test_a_deleted_array_is_damage_like_any_other(
    run_of: Runner, made: Run, stage: str, first: str
) -> None:
    before, folder = digests(made), stored(made, stage)
    shutil.rmtree(folder)
    if first == "read":
        with pytest.raises(Damaged, match="is not what was written"):
            ARRAYS[stage]("tiny")[0]
    elif first == "verify":
        answer = said("verify")
        assert (answer.returncode, answer.stderr) == (1, "")
        assert f"DAMAGED: {folder}/zarr.json is not what was written" in answer.stdout
        assert "not marked" not in answer.stdout
    units = len(made.named(stage)[0].units(made.store))
    assert computed(run_of()) == {stage: units}
    assert digests(made) == before
    assert len(ARRAYS[stage]("tiny")[:])


def test_damage_of_a_store_that_cannot_be_written_is_one_line(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(stored(made, "attention"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(Damaged, match=r"attention\.zarr/zarr\.json.*Permission denied"):
        load.attention("tiny")


# --- From somewhere else --------------------------------------------------------------------------


@pytest.fixture
def remote(made: Run) -> Iterator[str]:
    """The address of a copy that is not on this machine's file system."""
    fsspec.filesystem("memory").put(str(made.store.root), "/bucket/artifacts", recursive=True)
    yield "memory://bucket/artifacts"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_a_copy_elsewhere_is_read_like_the_store(
    made: Run, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(made.store.root)
    for read in (
        partial(load.runs),
        partial(load.metrics, "tiny"),
        partial(load.per_class, "tiny"),
        partial(load.scores, "tiny", "abs", **{"crops.k": 20}),
        partial(load.images, "tiny"),
        partial(load.crops, "tiny", "raw"),
        partial(load.texts, "tiny"),
    ):
        found = read(store=remote)
        assert len(found)
        pd.testing.assert_frame_equal(found, read(store=here))
        pd.testing.assert_frame_equal(found, read(store=f"file://{here}"))
    for array in (partial(load.embeddings, view="raw"), load.text_embeddings, load.attention):
        assert (array("tiny", store=remote)[:] == array("tiny", store=here)[:]).all()
    monkeypatch.setenv("ABS_ARTIFACTS", remote)
    assert len(load.scores("tiny")) == len(load.scores("tiny", store=here))


def test_a_copy_is_compared_with_its_receipts_and_nothing_of_it_is_touched(
    made: Run, remote: str
) -> None:
    there, key = fsspec.filesystem("memory"), made.named("scores")[0].key
    path = f"/bucket/artifacts/tiny/scores/{key}/scores.parquet/00001.parquet"
    content = bytearray(there.cat_file(path))
    content[40] ^= 1
    there.pipe_file(path, bytes(content))
    before = there.find("/bucket", detail=False)
    with pytest.raises(Damaged, match=r"00001\.parquet is not what was written; copy it once more"):
        load.scores("tiny", store=remote)
    assert len(load.metrics("tiny", store=remote))
    assert there.find("/bucket", detail=False) == before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense://bucket", "nonsense://bucket cannot be read: "),
        ("memory://nowhere", "no run of dataset 'tiny' in memory://nowhere"),
    ],
)
def test_an_address_that_has_nothing_is_one_line(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load.scores("tiny", store=address)


def test_units_are_not_written_to_an_address(tiny: Path) -> None:
    for words in (["run"], ["status"], ["scores"]):
        answer = said(*words, "--dataset", tiny, ABS_ARTIFACTS="s3://bucket/artifacts")
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert "results can be read from s3://bucket/artifacts" in answer.stderr
