"""One rule for labels: every reader against every kind of label."""

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
from pipeline.datasets.readers.coop import read_coop
from pipeline.datasets.readers.folder import read_folder
from pipeline.datasets.readers.huggingface import read_huggingface
from pipeline.datasets.readers.manifest import read_manifest
from pipeline.datasets.readers.webdataset import read_webdataset


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(content, "png")
    return content.getvalue()


def csv(folder: Path, labels: list[Any]) -> Listing:
    rows = [(f"{i}.png", "" if label is None else str(label)) for i, label in enumerate(labels)]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / "manifest.csv", index=False)
    return read_manifest(folder, Columns())


def parquet(folder: Path, labels: list[Any]) -> Listing:
    import pyarrow as pa
    from pyarrow import parquet as files

    paths = [f"{i}.png" for i in range(len(labels))]
    files.write_table(pa.table({"path": paths, "label": labels}), folder / "manifest.parquet")
    return read_manifest(folder, Columns())


def json_lines(folder: Path, labels: list[Any]) -> Listing:
    rows = [{"path": f"{i}.png", "label": label} for i, label in enumerate(labels)]
    lines = [json.dumps(row, default=str) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
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
        (
            (f"{i}.png", picture(i)),
            (f"{i}.json", json.dumps({"label": label}, default=str).encode()),
        )
        for i, label in rows
    ]
    return shards(folder, [member for pair in pairs for member in pair])


def folder(place: Path, labels: list[Any]) -> Listing:
    for i, label in enumerate(labels):
        (place / str(label)).mkdir(exist_ok=True)
        (place / str(label) / f"{i}.png").write_bytes(picture(i))
    return read_folder(place)


def coop(place: Path, labels: list[Any]) -> Listing:
    rows = []
    for i, label in enumerate(labels):
        (place / f"{i}.png").write_bytes(picture(i))
        whole = isinstance(label, int | float | str) and str(label).partition(".")[0].isdecimal()
        rows.append([f"{i}.png", label, NUMBERS[int(float(label)) % 3] if whole else "zero"])
    (place / "split_zhou_Own.json").write_text(json.dumps({"test": rows}, default=str))
    return read_coop(place, Columns())


READERS: dict[str, Callable[[Path, list[Any]], Listing]] = {
    "folder": folder, "csv": csv, "parquet": parquet, "json lines": json_lines,
    "huggingface": huggingface, "cls": cls, "json": jsons, "coop": coop,
}  # fmt: skip

NUMBERS = ["zero", "one", "two"]
"""Names that `dataset.names` gives to classes which are numbers."""
NO_LABEL = "one name or one whole number, found|cannot name classes|dataset.names:"
"""What is said of a value that is no label, or of a folder that is called so."""
SPELLINGS = "differ only in"

KINDS: dict[str, tuple[list[Any], list[str | None] | str]] = {
    "names": (["dog", "cat", "dog"], ["dog", "cat", "dog"]),
    "whole numbers": ([2, 0, 1], ["two", "zero", "one"]),
    "whole floats": ([2.0, 0.0, 1.0], ["two", "zero", "one"]),
    "texts of numbers": (["2", "0", "1"], ["two", "zero", "one"]),
    "texts of floats": (["2.0", "0.0", "1.0"], ["two", "zero", "one"]),
    "spaces": (["dog ", "hot  dog", "dog "], ["dog", "hot dog", "dog"]),
    "decomposed Unicode": (["cafe\u0301", "cat", "cat"], ["caf\u00e9", "cat", "cat"]),
    "underscores": (["apple_pie", "cat", "cat"], ["apple pie", "cat", "cat"]),
    "invisible characters": (["\ufeffdog", "cat\u200f", "\ufeffdog"], ["dog", "cat", "dog"]),
    "null": (["dog", None, "cat"], ["dog", None, "cat"]),
    "null among numbers": ([1, None, 0], ["one", None, "zero"]),
    "blank": (["dog", " ", "cat"], ["dog", None, "cat"]),
    "spellings: spaces": (["dog", "dog ", "cat"], SPELLINGS),
    "spellings: case": (["Dog", "dog", "cat"], SPELLINGS),
    "spellings: Unicode": (["caf\u00e9", "cafe\u0301", "cat"], SPELLINGS),
    "spellings: underscores": (["apple pie", "apple_pie", "cat"], SPELLINGS),
    "spellings: marks of direction": (["dog", "dog\u200f", "cat"], SPELLINGS),
    "spellings: joiners": (["dog", "dog\u200d", "cat"], SPELLINGS),
    "spellings: fillers": (["dog", "dog\u3164", "cat"], SPELLINGS),
    "names and numbers": (["dog", "1", "cat"], "mix numbers and names|dataset.names:"),
    "WordNet ids": (["n01440764", "n02123045", "n01440764"], "cannot name classes"),
    "lists": ([["dog"], ["dog", "cat"]], NO_LABEL),
    "booleans": ([True, False], NO_LABEL),
    "words for booleans and nothing": (["true", "dog", "nan"], NO_LABEL),
    "fractions": ([0.5, 1.5], NO_LABEL),
    "NaN": ([math.nan, 1.0], NO_LABEL),
    "dates": ([datetime.datetime(2020, 1, 1), datetime.datetime(2021, 1, 1)], NO_LABEL),
    "negative numbers": ([-1, 0], "label -1 is out of range|has a class -1|not 0 to"),
    "identifiers": ([10**7, 10**7 + 1], "is out of range|has a class|not 0 to"),
}  # fmt: skip
"""Labels of the images in order by kind, and the name of each image's class, None for an image that
is skipped, or what the error says: the same for every reader."""

HAS_A_NAME, IS_A_NAME = "a folder always has a name", "a folder holds no value: it is a name"
BY_NUMBER = "its labels are numbers, which tell classes apart whatever their names are"
CANNOT = {
    "folder": {
        "null": HAS_A_NAME, "null among numbers": HAS_A_NAME, "blank": HAS_A_NAME,
        "booleans": IS_A_NAME, "words for booleans and nothing": IS_A_NAME,
    },
    "huggingface": {"negative numbers": "-1 is the library's mark of a missing label"},
    "coop": {
        kind: BY_NUMBER
        for kind, (labels, _) in KINDS.items()
        if any(isinstance(label, str) and not label[0].isdecimal() for label in labels)
    },
}  # fmt: skip
"""Kinds that a reader cannot hold, and why."""


@pytest.mark.parametrize(
    ("reader", "kind"), [(r, k) for r in READERS for k in KINDS if k not in CANNOT.get(r, {})]
)
def test_every_reader_gives_a_label_the_same_meaning(
    reader: str, kind: str, tmp_path: Path
) -> None:
    labels, expected = KINDS[kind]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NUMBERS))
    (place := tmp_path / "data").mkdir()
    if isinstance(expected, str):
        with pytest.raises(AbsError, match=expected) as why:
            named(READERS[reader](place, labels), names)
        assert "\n" not in str(why.value)
        if expected is SPELLINGS:
            assert repr(labels[1]) in str(why.value) or ascii(labels[1]) in str(why.value)
        return
    found = READERS[reader](place, labels)
    assert [named(found, names).get(i) for i in range(len(labels))] == expected
    assert [reason for _, reason in found.skipped] == ["no label"] * expected.count(None)


def named(listing: Listing, names: Path) -> dict[int, str]:
    """The name of each image's class, by the number that its file is called."""
    numbers = not any(one.name for one in listing.classes)
    classes, labels = resolve_classes(listing, names if numbers else None, None, unique=False)
    return {int(Path(path).stem): classes.names[labels[n]] for path, n in listing.samples}


def test_folders_that_are_called_like_values(tmp_path: Path) -> None:
    """Words are names, as of a class without a defect; all else has to be renamed."""
    found = folder(tmp_path, ["None", "true", "0.5", "2024-01-01", "-1"])
    assert {one.key: one.name for one in found.classes} == {
        "None": "None", "true": "true", "0.5": "", "2024-01-01": "", "-1": "",
    }  # fmt: skip


@pytest.mark.parametrize("word", ["nan", "NA", "None"])
def test_a_class_called_like_a_missing_value_is_renamed(tmp_path: Path, word: str) -> None:
    with pytest.raises(AbsError, match=r"write another label and give its name by dataset\.names"):
        csv(tmp_path, ["dog", word])
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"dog": "dog", "bread": word}))
    found = resolve_classes(csv(tmp_path, ["dog", "bread"]), names, None, unique=False)[0]
    assert set(found.names) == {"dog", word}


def test_nulls_among_whole_numbers_of_parquet_are_missing_and_not_numbers(tmp_path: Path) -> None:
    listing = parquet(tmp_path, [1, None, 0])
    assert [listing.classes[label].key for _, label in listing.samples] == ["1", "0"]
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
