"""One rule for labels: every reader of tables against every kind of label."""

from __future__ import annotations

import datetime
import io
import json
import math
import tarfile
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.classes import resolve_classes
from pipeline.datasets.labels import parse_label, parse_labels
from pipeline.datasets.listing import INVISIBLE, Columns, Listing
from pipeline.datasets.readers.huggingface import read_huggingface
from pipeline.datasets.readers.manifest import read_manifest
from pipeline.datasets.readers.webdataset import read_webdataset


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(content, "png")
    return content.getvalue()


def csv(folder: Path, labels: list[Any]) -> Listing:
    rows = [(f"{i}.png", "" if label is None else label) for i, label in enumerate(labels)]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / "manifest.csv", index=False)
    return read_manifest(folder, Columns())


def parquet(folder: Path, labels: list[Any]) -> Listing:
    import pyarrow as pa
    from pyarrow import parquet as files

    paths = [f"{i}.png" for i in range(len(labels))]
    files.write_table(pa.table({"path": paths, "label": labels}), folder / "manifest.parquet")
    return read_manifest(folder, Columns())


def json_lines(folder: Path, labels: list[Any]) -> Listing:
    rows = [json.dumps({"path": f"{i}.png", "label": label}) for i, label in enumerate(labels)]
    (folder / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return read_manifest(folder, Columns())


def huggingface(folder: Path, labels: list[Any]) -> Listing:
    images = [{"bytes": picture(i), "path": None} for i in range(len(labels))]
    table = datasets.Dataset.from_dict({"image": images, "label": labels})
    table.cast_column("image", datasets.Image()).save_to_disk(str(folder / "saved"))
    return read_huggingface(folder / "saved", Columns())


def shards(folder: Path, members: list[tuple[str, bytes]]) -> Listing:
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return read_webdataset(folder, Columns())


def cls(folder: Path, labels: list[Any]) -> Listing:
    texts = ["" if label is None else str(label) for label in labels]
    rows = enumerate(texts)
    pairs = [((f"{i}.png", picture(i)), (f"{i}.cls", text.encode())) for i, text in rows]
    return shards(folder, [member for pair in pairs for member in pair])


def jsons(folder: Path, labels: list[Any]) -> Listing:
    rows = enumerate(labels)
    pairs = [
        ((f"{i}.png", picture(i)), (f"{i}.json", json.dumps({"label": label}).encode()))
        for i, label in rows
    ]
    return shards(folder, [member for pair in pairs for member in pair])


READERS: dict[str, Callable[[Path, list[Any]], Listing]] = {
    "csv": csv, "parquet": parquet, "json lines": json_lines, "huggingface": huggingface,
    "cls": cls, "json": jsons,
}  # fmt: skip
REFUSED = "differ only in|equal but for|mix numbers and names"
TEXT_ONLY = {"csv", "cls"}
"""Readers of text, which cannot hold a list, a boolean or a date."""


def classes(listing: Listing) -> list[str]:
    """The key of each sample's class, in order of samples."""
    return [listing.classes[label].key for _, label in listing.samples]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["dog", "cat", "dog"], ["dog", "cat", "dog"]),
        ([2, 0, 10], ["2", "0", "10"]),
        ([2.0, 0.0, 10.0], ["2", "0", "10"]),
        (["2", "0", "10"], ["2", "0", "10"]),
        (["2.0", "0.0", "10.0"], ["2", "0", "10"]),
        (["dog ", "cat", "dog "], ["dog", "cat", "dog"]),
        (["cafe\u0301", "cat", "cat"], ["caf\u00e9", "cat", "cat"]),
        (["apple_pie", "cat", "cat"], ["apple_pie", "cat", "cat"]),
    ],
    ids=["names", "integers", "floats", "texts", "float texts", "spaces", "NFD", "underscores"],
)
def test_labels_of_one_kind(
    reader: str, labels: list[Any], expected: list[str], tmp_path: Path
) -> None:
    listing = READERS[reader](tmp_path, labels)
    assert classes(listing) == expected
    assert not listing.skipped
    names = {one.key: one.name for one in listing.classes}
    assert names.get("apple_pie", "apple pie") == "apple pie"
    assert all(name == "" for key, name in names.items() if key.isdecimal())


@pytest.mark.parametrize("reader", READERS)
def test_rows_without_a_label_are_skipped_and_said(reader: str, tmp_path: Path) -> None:
    listing = READERS[reader](tmp_path, ["dog", None, "cat", " "])
    assert classes(listing) == ["dog", "cat"]
    assert [reason for _, reason in listing.skipped] == ["no label"] * 2


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "labels",
    [
        ["dog", "dog ", "cat"],
        ["Dog", "dog", "cat"],
        ["caf\u00e9", "cafe\u0301", "cat"],
        ["apple pie", "apple_pie", "cat"],
        ["dog", "3", "cat"],
    ],
    ids=["spaces", "case", "Unicode", "underscores", "names and numbers"],
)
def test_spellings_and_mixtures_are_refused_with_both(
    reader: str, labels: list[str], tmp_path: Path
) -> None:
    with pytest.raises(AbsError, match=REFUSED) as why:
        resolve_classes(READERS[reader](tmp_path, labels), None, None, unique=False)
    shown = ascii(str(why.value))
    assert labels[1].strip() in str(why.value) or ascii(labels[1])[1:-1] in shown


@pytest.mark.parametrize("reader", sorted(set(READERS) - TEXT_ONLY))
@pytest.mark.parametrize(
    "labels",
    [[["dog"], ["dog", "cat"]], [True, False], [0.5, 1.0], [math.nan, 1.0]],
    ids=["lists", "booleans", "fractions", "NaN"],
)
def test_what_is_no_label_is_refused_with_its_row(
    reader: str, labels: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(AbsError, match="expected a label, one name or one whole number, found"):
        READERS[reader](tmp_path, labels)


@pytest.mark.parametrize("reader", ["parquet", "huggingface"])
def test_dates_are_refused(reader: str, tmp_path: Path) -> None:
    with pytest.raises(AbsError, match="expected a label"):
        READERS[reader](tmp_path, [datetime.datetime(2020, 1, 1)] * 2)


def test_nulls_among_whole_numbers_of_parquet_are_missing_and_not_numbers(tmp_path: Path) -> None:
    listing = parquet(tmp_path, [1, None, 0])
    assert classes(listing) == ["1", "0"]
    assert listing.skipped == [("1.png", "no label")]


@pytest.mark.parametrize("value", [np.int64(3), np.float32(3), Decimal(3), 3.0, "3", " 3.0 ", "03"])
def test_whole_numbers_of_any_type_are_numbers(value: Any) -> None:
    assert parse_label(value, "row 1") == 3
    assert type(parse_label(value, "row 1")) is int


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_text_is_a_number_a_name_in_normal_form_or_refused(text: str) -> None:
    try:
        label = parse_label(text, "row 1")
    except AbsError:
        assert text.strip()
        return
    if isinstance(label, int):
        assert label == float(text.translate(INVISIBLE))
    elif label is not None:
        assert unicodedata.is_normalized("NFC", label)
        assert label == " ".join(label.split())
        assert not set(label) & set("\n\t\ufeff")
        assert parse_label(label, "row 1") == label


OTHER_VALUES = [
    "0.5", "1e3", "nan", "NaN", "inf", "True", "FALSE", "None", "null", "NA", "N/A", "<NA>",
    "2024-01-01", "2024-01-01 12:00:00", "['cat']", "[1 0]", '{"a": 1}', "('cat',)", '"cat"',
    "0 1", "3,4", "cat\ndog", "cat\tdog", "0\0",
]  # fmt: skip


@pytest.mark.parametrize("text", OTHER_VALUES)
def test_a_text_that_stands_for_another_value_is_refused(text: str) -> None:
    with pytest.raises(AbsError, match="row 7: expected a label, one name or one whole number"):
        parse_label(text, "row 7")


@pytest.mark.parametrize(
    "name", ["Nantes", "truffle", "no 1", "747-400", "2 series", "m3", "20240101123", "o'clock"]
)
def test_names_that_resemble_values_are_names(name: str) -> None:
    assert parse_label(name, "row 7") == name


def numbered(folder: Path, names: list[str], labels: list[int]) -> Listing:
    """A table of the Hugging Face library whose labels have names."""
    images = [{"bytes": picture(i), "path": None} for i in range(len(labels))]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    table = datasets.Dataset.from_dict({"image": images, "label": labels}, features)
    table.save_to_disk(str(folder / "saved"))
    return read_huggingface(folder / "saved", Columns())


def test_names_of_labels_that_are_numbers_are_joined_by_them(tmp_path: Path) -> None:
    """A folder of numbered classes is saved with the names 0, 1, 10, 11, 2 in this order."""
    texts = sorted(map(str, range(12)))
    listing = numbered(tmp_path, texts, list(range(12)))
    assert [(one.key, one.name) for one in listing.classes] == [(text, "") for text in texts]
    path = tmp_path / "names.json"
    for names in ([f"name {n}" for n in range(12)], {str(n): f"name {n}" for n in range(12)}):
        path.write_text(json.dumps(names))
        found, places = resolve_classes(listing, path, None, unique=False)
        assert [found.names[place] for place in places] == [f"name {text}" for text in texts]


def test_a_list_that_contradicts_names_of_labels_is_refused(tmp_path: Path) -> None:
    listing = numbered(tmp_path, ["cat", "dog"], [0, 1])
    path = tmp_path / "names.json"
    path.write_text(json.dumps(["dog", "cat"]))
    with pytest.raises(AbsError, match=r"name 1 is 'dog', but .* that class at place 2"):
        resolve_classes(listing, path, None, unique=False)
    path.write_text(json.dumps(["Katze", "Hund"]))
    assert resolve_classes(listing, path, None, unique=False)[0].names == ("Katze", "Hund")


@pytest.mark.parametrize("names", [["n01440764", "n01443537"], ["0", "1"], ["911", "Alien"]])
def test_names_of_labels_that_are_identifiers_are_no_names(
    tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.names"):
        resolve_classes(numbered(tmp_path, names, [0, 1]), None, None, unique=False)


def test_numbers_are_two_classes_however_they_are_named(tmp_path: Path) -> None:
    listing = numbered(tmp_path, ["A", "a"], [0, 1])
    classes, places = resolve_classes(listing, None, None, unique=False)
    assert (classes.names, places) == (("A", "a"), [0, 1])


def test_rows_of_a_csv_that_are_shifted_are_refused(tmp_path: Path) -> None:
    for text, message in [
        ("path,label\n0.png,cat,1\n", "line 2 has 3 cells, not 2"),
        ("path,label\n0.png\n", "line 2 has 1 cells, not 2"),
        ('path,label\n0.png,"cat\n1.png,dog\n', "unexpected end of data"),
        ('path,label\n0.png,"cat\n1.png,dog"\n', "row 1: expected a label"),
        ("path,label,label\n0.png,cat,dog\n", "two columns are called 'label'"),
    ]:
        (tmp_path / "manifest.csv").write_text(text)
        with pytest.raises(AbsError, match=message):
            read_manifest(tmp_path, Columns())


@given(st.lists(st.one_of(st.integers(0, 50), st.sampled_from([0.0, 1.0, 7.0])), min_size=1))
def test_numbers_are_joined_by_number(values: list[float]) -> None:
    assert parse_labels(values, "it", str) == [int(value) for value in values]


def test_keys_with_dots_are_listed_and_unsorted_shards_named(tmp_path: Path) -> None:
    found = shards(
        tmp_path,
        [("0.png", picture(0)), ("0.cls", b"cat"), ("1.5.png", picture(1)), ("1.5.cls", b"dog")],
    )
    assert [path for path, _ in found.samples] == ["0.tar/0.png"]
    assert found.skipped == [
        ("0.tar/1.5.png", "a key with dots: webdataset ends a key at the first dot")
    ]
    both = [("0.png", picture(0)), ("1.png", picture(1)), ("0.cls", b"cat"), ("1.cls", b"dog")]
    with pytest.raises(AbsError, match="pack the shard again with tar --sort=name"):
        shards(tmp_path, both)
    labels_first = [both[i] for i in (2, 3, 0, 1)]
    with pytest.raises(AbsError, match="do not lie together; pack the shard again"):
        shards(tmp_path, labels_first)
