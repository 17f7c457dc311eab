"""Tables that label images as people have them: metadata of image folders, and CoOp's splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.datasets.listing import Columns, LayoutNotFound, Listing
from pipeline.datasets.readers.coop import read_coop
from pipeline.datasets.readers.manifest import read_manifest
from pipeline.first_steps.new_dataset import write_dataset

ROWS = {f"images/{i}.png": ("cat", "dog")[i % 2] for i in range(6)}


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def named(listing: Listing) -> dict[str, str]:
    """The name of each image's class, by its path."""
    return {path: listing.classes[label].name for path, label in listing.samples}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pipeline.first_steps.new_dataset.own_cfgs", lambda: tmp_path / "cfgs")
    for path in ROWS:
        picture(tmp_path / "data" / path)
    return tmp_path / "data"


def write_table(path: Path, image: str, label: str) -> None:
    frame = pd.DataFrame({image: list(ROWS), label: list(ROWS.values())})
    if path.suffix.lower() == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)


# --- metadata.* ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_init_reads_the_metadata_of_an_image_folder(root: Path, suffix: str) -> None:
    write_table(root / f"metadata{suffix}", "file_name", "label")
    path, found = write_dataset("birds", root)
    assert named(found.listing) == ROWS
    assert yaml.safe_load(path.read_text())["dataset"]["reader"] == "manifest"


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".jsonl", ".parquet"])
def test_columns_of_other_names_are_asked_for_and_kept(root: Path, suffix: str) -> None:
    table = root / f"birds{suffix}"
    write_table(table, "filepath", "species")
    with pytest.raises(
        AbsError, match=r"no column 'path'; it has filepath, species; .*--image-col"
    ):
        write_dataset("birds", table)
    path, found = write_dataset("birds", table, image_column="filepath", label_column="species")
    assert named(found.listing) == ROWS
    stored = yaml.safe_load(path.read_text())["dataset"]
    assert (stored["image"], stored["label"]) == ("filepath", "species")


def test_a_field_that_a_line_lacks_is_missing(tmp_path: Path) -> None:
    rows = [{"path": "0.png", "label": "cat"}, {"path": "1.png"}, {"label": "cat"}]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    (tmp_path / "manifest.jsonl").write_text("\ufeff" + lines)
    listing = read_manifest(tmp_path, Columns())
    assert named(listing) == {"0.png": "cat"}
    assert sorted(listing.skipped) == [("1.png", "no label"), ("row 3", "no path")]


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    row = {"path": "0.png", "label": "cat", "caption": "one\u2028two\u0085three"}
    text = json.dumps(row, ensure_ascii=False)
    (tmp_path / "manifest.jsonl").write_text(text + "\r\n", encoding="utf-8")
    assert named(read_manifest(tmp_path, Columns())) == {"0.png": "cat"}


@pytest.mark.parametrize("line", ["[1, 2]", "{", "3", '"a"'])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"path": "0.png", "label": "cat"}\n' + line)
    with pytest.raises(AbsError, match="cannot be read: line 2 is not a JSON object"):
        read_manifest(tmp_path, Columns())


# --- Splits of a table ---------------------------------------------------------------------------


SPLIT_ROWS = {
    "folders": ["path,label", "train/0.png,cat", "test/1.png,dog", "./test/2.png,cat", ",dog"],
    "column": [
        "path,label,split",
        "0.png,cat,train",
        "1.png,dog,test",
        "2.png,cat,test",
        ",dog,test",
    ],
}


@pytest.mark.parametrize("form", SPLIT_ROWS)
def test_splits_of_a_table_are_never_mixed_unasked(tmp_path: Path, form: str) -> None:
    (tmp_path / "metadata.csv").write_text("\n".join(SPLIT_ROWS[form]))
    with pytest.raises(
        ConfigError,
        match=r"metadata\.csv are of several splits; .* test, train, or all \(abs",
    ):
        read_manifest(tmp_path, Columns())
    with pytest.raises(ConfigError, match=r"no rows of 'tset'; did you mean 'test'\?"):
        read_manifest(tmp_path, Columns(split="tset"))
    chosen = named(read_manifest(tmp_path, Columns(split="test")))
    assert {path[-5:]: name for path, name in chosen.items()} == {"1.png": "dog", "2.png": "cat"}
    every = read_manifest(tmp_path, Columns(split="all"))
    assert (len(every.samples), every.skipped) == (3, [("row 4", "no path")])


def test_a_header_may_have_spaces_around_its_names(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path, label\n0.png, cat\n1.png, dog\n")
    assert named(read_manifest(tmp_path, Columns())) == {"0.png": "cat", "1.png": "dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path;label\n0.png;cat\n", "cells are parted by ';'; save it with commas"),
        (b"path\tlabel\n0.png\tcat\n", r"cells are parted by '\\t'; save it with commas"),
        ("path,label\n0.png,été\n".encode("latin-1"), "is not UTF-8; save it as UTF-8"),
        ("path,label\n0.png,cat\n".encode("utf-16"), "is not UTF-8; save it as UTF-8"),
    ],
)
def test_tables_in_another_form_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(AbsError, match=message):
        read_manifest(tmp_path, Columns())


def test_init_asks_for_names_of_numbers(root: Path) -> None:
    table = root / "manifest.csv"
    table.write_text("path,label\nimages/0.png,0\nimages/1.png,2\n")
    with pytest.raises(ConfigError, match=r"dataset\.names: .* such as 0, .* in the order of the"):
        write_dataset("numbers", table)
    names = root / "names.txt"
    names.write_text("zero\none\ntwo\n")
    _, found = write_dataset("numbers", table, names=names)
    assert [found.classes.names[label] for _, label in found.samples] == ["zero", "two"]


@pytest.mark.parametrize("row", [r"images\0.png", "0.png", "images/0"])
def test_init_counts_what_is_there_and_shows_a_path_that_is_not(root: Path, row: str) -> None:
    table = root / "manifest.csv"
    table.write_text(f"path,label\nimages/1.png,cat\n{row},dog\n")
    _, found = write_dataset("some", table)
    assert [len(found.samples), found.skipped] == [1, [(row, "listed, but not there")]]
    table.write_text(f"path,label\n{row},cat\nx,dog\n")
    with pytest.raises(MissingInput, match="none of the 2 listed images is there, such as") as why:
        write_dataset("none", table)
    assert repr(min(row, "x")) in str(why.value)
    assert not (root.parent / "cfgs" / "datasets" / "none.yaml").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["path,label,split", "0.png,cat,test", "1.png,dog,"], r"choose one of \(blank\), test"),
        (["path,label", "0.png,cat", "a/train/1.png,dog"], None),
        (["path,label", "bullet_train/0.png,cat", "test_tube/1.png,dog", "bus/2.png,bus"], None),
        (["path,label", "test/0.png,cat", "test/1.png,dog"], None),
        (["path,label,split", "0.png,cat,test", "1.png,dog,test"], None),
        (["path,label", "0.png,cat", "train/1.png,dog", "val/2.png,dog"], "one of ., train, val"),
    ],
)
def test_what_the_splits_of_a_table_are(
    tmp_path: Path, rows: list[str], message: str | None
) -> None:
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    if message is None:
        assert len(read_manifest(tmp_path, Columns()).samples) == len(rows) - 1
        return
    with pytest.raises(ConfigError, match=message):
        read_manifest(tmp_path, Columns())


# --- CoOp's splits -------------------------------------------------------------------------------

SPLITS: dict[str, list[list[Any]]] = {
    "train": [["0.png", 1, "forest_path"]],
    "val": [["1.png", 2, "river"]],
    "test": [["3.png", 0, "Annual Crop"], ["2.png", 1, "forest_path"]],
}


@pytest.fixture
def split(tmp_path: Path) -> Path:
    for i in range(4):
        picture(tmp_path / "2750" / f"{i}.png")
    path = tmp_path / "split_zhou_EuroSAT.json"
    path.write_text(json.dumps(SPLITS))
    return path


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_split_has_the_classes_of_all_splits(split: Path, place: str) -> None:
    listing = read_coop(split if place == "file" else split.parent, Columns())
    assert [one.name for one in listing.classes] == ["Annual Crop", "forest path", "river"]
    assert listing.samples == [("2750/2.png", 1), ("2750/3.png", 0)]
    other = read_coop(split, Columns(split="train"))
    assert (other.classes, other.samples) == (listing.classes, [("2750/0.png", 1)])


def test_init_reads_a_split(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.first_steps.new_dataset.own_cfgs", lambda: split.parent / "cfgs")
    for number, place in enumerate([split, split.parent]):
        path, found = write_dataset(f"eurosat{number}", place, split="test")
        assert len(found.samples) == 2
        assert yaml.safe_load(path.read_text())["dataset"]["reader"] == "coop"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected lists of"),
        ({"test": {"a": 1}}, "expected lists of"),
        ({"test": [["0.png", 0]]}, r"split 'test', row 1: expected \[path, label, class name\]"),
        ({"test": [["0.png", "x", "cat"]]}, "row 1: expected"),
        ({"test": [["0.png", 0.5, "cat"]]}, "row 1: expected a label"),
        ({"test": [["0.png", 0, None]]}, "row 1: expected"),
        ({"test": [["0.png", 0, "a"], ["./0.png", 0, "a"]]}, "row 2: '0.png' is listed twice"),
        ({"test": [["0.png", 0, "a"], ["1.png", 0, "b"]]}, "label 0 is both 'a' and 'b'"),
        ({"test": [["0.png", 0, "a"], ["1.png", 2, "b"]]}, "labels are not 0 to 1"),
        ({"test": [["9.png", 0, "a"], ["8.png", 1, "b"]]}, "none of its 2 images, such as 9.png"),
    ],
)
def test_a_split_that_cannot_be(split: Path, content: Any, message: str) -> None:
    split.write_text(json.dumps(content))
    with pytest.raises((AbsError, MissingInput), match=message):
        read_coop(split, Columns())


def test_choices_that_cannot_be(split: Path) -> None:
    with pytest.raises(ConfigError, match=r"no images in 'tset'; did you mean 'test'\?"):
        read_coop(split, Columns(split="tset"))
    with pytest.raises(ConfigError, match="has no columns"):
        read_coop(split, Columns(label="x"))
    (split.parent / "split_zhou_B.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"split_zhou_B\.json, split_zhou_EuroSAT\.json; choose"):
        read_coop(split.parent, Columns())
    with pytest.raises(LayoutNotFound, match="has no split_zhou"):
        read_coop(split.parent / "2750", Columns())


def test_images_of_one_path_in_two_folders_are_not_guessed(split: Path) -> None:
    picture(split.parent / "copies" / "3.png")
    with pytest.raises(AbsError, match=r"3\.png lies in .*2750 and in .*copies"):
        read_coop(split, Columns())
