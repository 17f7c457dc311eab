"""Datasets whose images are packed into few files: of the Hugging Face library, and WebDataset.

The files are written by those libraries themselves, and what is read is compared with what they
read.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import webdataset
from PIL import Image

from pipeline.cli.commands.init import command as init_command
from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import decode
from pipeline.datasets.listing import FOREIGN_FORMAT, NOT_AN_IMAGE
from pipeline.datasets.readers.shard_samples import DOTS, NO_FILE, OTHER_SUFFIX
from pipeline.first_steps.doctor import only_index as index
from pipeline.first_steps.new_dataset import write_dataset
from pipeline.plan import read
from pipeline.run import Run
from pipeline.texts.class_texts import ClassTexts
from tests.helpers.runs import Runner, digests, make_all

NAMES = ["wren", "crane", "auk"]
"""In an order of their own."""

LABELS = [2, 0, 1, 0, 2]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (50 * number, 90, 90)).save(file, "JPEG")
    return file.getvalue()


PICTURES = [picture(number) for number in range(len(LABELS))]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def dataset(reader: str, root: Path, **more: Any) -> Dataset:
    choices = {"single_class": True, **more}
    config = DatasetConfig(name="packed", root=(str(root),), reader=reader, **choices)
    store = root.parent / "store"
    return Dataset(config, Paths(artifacts=str(store)), HashCache(store / "sha256.json"))


def told(found: Dataset) -> list[tuple[bytes, str]]:
    """Bytes and class name of each image, in order."""
    names = found.classes.names
    return [(found.contents.read(path), names[label]) for path, label in found.samples]


EXPECTED = [(PICTURES[n], NAMES[label]) for n, label in enumerate(LABELS)]


# --- Hugging Face -----------------------------------------------------------------------------


def table(kind: Any = None, **more: list[Any]) -> datasets.Dataset:
    columns = {"image": [{"bytes": content, "path": None} for content in PICTURES]}
    columns |= {"label": LABELS} | more
    kinds: dict[str, Any] = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    if kind is not None:
        kinds["label"] = kind
    found = datasets.Dataset.from_dict(columns)
    return found.cast(datasets.Features({**found.features, **kinds}))


def saved(root: Path) -> None:
    table().save_to_disk(str(root))


def saved_splits(root: Path) -> None:
    splits = {"train": table().select([0]), "test": table()}
    datasets.DatasetDict(splits).save_to_disk(str(root))


def repository(root: Path) -> None:
    """As `huggingface-cli download --repo-type dataset` leaves it."""
    (root / "data").mkdir(parents=True)
    table().to_parquet(root / "data" / "test-00000-of-00001.parquet")
    table().select([0]).to_parquet(root / "data" / "train-00000-of-00001.parquet")
    entries = "\n".join(f"  - {{split: {s}, path: data/{s}-*}}" for s in ("train", "test"))
    (root / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{entries}\n---\n"
    )


def one_file(root: Path) -> None:
    table().to_parquet(root)


@pytest.mark.parametrize(
    ("write", "split", "place"),
    [
        (saved, None, "birds"),
        (saved_splits, "test", "birds"),
        (repository, "test", "birds"),
        (one_file, None, "birds.parquet"),
    ],
)
def test_tables_of_the_hugging_face_library(
    tmp_path: Path, write: Callable[[Path], None], split: str | None, place: str
) -> None:
    """Labels are those of the feature, whose names are not sorted; bytes are the table's."""
    write(tmp_path / place)
    found = dataset("huggingface", tmp_path / place, split=split)
    assert told(found) == EXPECTED
    assert found.classes.names == tuple(NAMES)
    assert [path.split("/")[1] for path, _ in found.samples] == [f"000000{n}" for n in range(5)]


def test_a_table_is_read_by_other_processes(tmp_path: Path) -> None:
    saved(tmp_path / "birds")
    held = dataset("huggingface", tmp_path / "birds").contents
    again = pickle.loads(pickle.dumps(held))
    assert [again.read(f"all/{n}") for n in range(5)] == PICTURES


@pytest.mark.parametrize(
    ("kind", "labels", "names", "skipped"),
    [
        (datasets.Value("string"), ["b", "a", "b", "", "a"], ("a", "b"), 1),
        (datasets.Value("string"), ["b", "a", None, "b", "a"], ("a", "b"), 1),
        (None, [0, -1, 2, 1, 0], tuple(NAMES), 1),
    ],
)
def test_labels_as_text_or_none(
    tmp_path: Path, kind: Any, labels: list[Any], names: tuple[str, ...], skipped: int
) -> None:
    table(kind, label=labels).save_to_disk(str(tmp_path / "birds"))
    found = dataset("huggingface", tmp_path / "birds")
    assert found.classes.names == names
    assert (len(found.samples), len(found.skipped)) == (5 - skipped, skipped)


def test_numbers_without_names_need_a_list(tmp_path: Path) -> None:
    table(datasets.Value("int64")).save_to_disk(str(tmp_path / "birds"))
    with pytest.raises(
        ConfigError, match=r"dataset\.names: classes have identifiers for names, such as 0"
    ):
        _ = dataset("huggingface", tmp_path / "birds").classes
    file = tmp_path / "names.json"
    file.write_text(json.dumps([*NAMES, "no image shows it"]))
    found = dataset("huggingface", tmp_path / "birds", names=str(file))
    assert told(found) == EXPECTED
    assert len(found.classes.names) == 4


def test_several_columns_have_to_be_chosen_from(tmp_path: Path) -> None:
    both = table(fine=[1, 1, 0, 0, 0])
    both = both.cast_column("fine", datasets.ClassLabel(names=["x", "y"]))
    both = both.rename_columns({"label": "coarse", "image": "picture"})
    both.save_to_disk(str(tmp_path / "birds"))
    with pytest.raises(ConfigError, match=r"dataset\.label: choose one of .*coarse, fine"):
        _ = dataset("huggingface", tmp_path / "birds").listing
    found = dataset("huggingface", tmp_path / "birds", label="fine", image="picture")
    assert found.classes.names == ("x", "y")
    assert told(found)[2] == (PICTURES[2], "x")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, r"dataset\.split: .* several splits; choose one of train, test \(abs init: --split"),
        ({"split": "tset"}, r"has no 'tset'; did you mean 'test'\?"),
        ({"split": "test", "image": "imag"}, r"no column 'imag'; did you mean 'image'\?"),
        ({"split": "test", "image": "label"}, r"the column 'label' has no images"),
        (
            {"split": "test", "label": "image"},
            r"column 'image' .* is Image; expected a name or a number",
        ),
    ],
)
def test_choices_that_are_missing_or_wrong(
    tmp_path: Path, choice: dict[str, str], message: str
) -> None:
    saved_splits(tmp_path / "birds")
    with pytest.raises(ConfigError, match=message):
        _ = dataset("huggingface", tmp_path / "birds", **choice).listing


def test_a_row_without_an_image_is_skipped(tmp_path: Path) -> None:
    images = [{"bytes": content, "path": None} for content in PICTURES]
    images[2] = None
    stored = table(datasets.ClassLabel(names=NAMES), image=images)
    stored.to_parquet(str(tmp_path / "birds.parquet"))
    found = dataset("huggingface", tmp_path / "birds.parquet")
    rest = [row for n, row in enumerate(EXPECTED) if n != 2]
    assert (told(found), found.skipped) == (rest, [("train/0000002", "no image")])


def test_one_of_several_configurations_is_asked_for(tmp_path: Path) -> None:
    configs = ""
    for name in ("large", "small"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        table().to_parquet(str(tmp_path / "birds" / name / "test-00000-of-00001.parquet"))
        configs += f"- config_name: {name}\n  data_files: {name}/*\n"
    (tmp_path / "birds" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(ConfigError, match=r"dataset\.root: .* holds several configurations; give"):
        _ = dataset("huggingface", tmp_path / "birds").listing
    assert told(dataset("huggingface", tmp_path / "birds" / "small")) == EXPECTED


def test_columns_that_cannot_be_meant_are_not_offered(tmp_path: Path) -> None:
    """A column of plain bytes has no images, and one of images no labels."""
    plain = {"photo": PICTURES, "bird": [NAMES[label] for label in LABELS]}
    table = datasets.Dataset.from_dict(plain)
    table.save_to_disk(str(tmp_path / "plain"))
    with pytest.raises(AbsError, match=r"no column of the type Image among photo, bird; cast"):
        _ = dataset("huggingface", tmp_path / "plain").listing
    photos = [{"bytes": content, "path": None} for content in PICTURES]
    kinds = {"photo": datasets.Image(), "bird": datasets.Value("string")}
    table = datasets.Dataset.from_dict({**plain, "photo": photos}, datasets.Features(kinds))
    table.save_to_disk(str(tmp_path / "birds"))
    with pytest.raises(ConfigError, match=r"choose one of the columns bird \(abs init: --label-c"):
        _ = dataset("huggingface", tmp_path / "birds").listing


def test_another_column_of_images_is_read_anew(tmp_path: Path) -> None:
    """Digests are remembered by column; the same rows of another one are other images."""
    both = table(mask=[{"bytes": content, "path": None} for content in PICTURES[::-1]])
    both.cast_column("mask", datasets.Image()).save_to_disk(str(tmp_path / "birds"))
    first = dataset("huggingface", tmp_path / "birds", image="image").sha256_of_images()
    assert (
        dataset("huggingface", tmp_path / "birds", image="mask").sha256_of_images() == first[::-1]
    )


def test_a_split_that_one_table_is_not(tmp_path: Path) -> None:
    saved(tmp_path / "birds")
    with pytest.raises(ConfigError, match="has no 'test', but only 'all'"):
        _ = dataset("huggingface", tmp_path / "birds", split="test").listing


def test_a_column_that_is_called_label_is_not_passed_over(tmp_path: Path) -> None:
    both = table(datasets.Value("string"), label=list("abcab"), sex=[0, 1, 0, 1, 0])
    both = both.cast_column("sex", datasets.ClassLabel(names=["f", "m"]))
    both.save_to_disk(str(tmp_path / "birds"))
    with pytest.raises(ConfigError, match=r"dataset\.label: choose one of .*sex, label"):
        _ = dataset("huggingface", tmp_path / "birds").listing


@pytest.mark.parametrize("reader", ["huggingface", "webdataset"])
def test_numbers_that_are_no_labels(tmp_path: Path, reader: str) -> None:
    ids = [10**8 + n for n in range(5)]
    if reader == "huggingface":
        table(datasets.Value("int64"), label=ids).save_to_disk(str(tmp_path / "birds"))
    else:
        shards(tmp_path / "birds", cls=ids)
    with pytest.raises(AbsError, match=r"label 10000000\d is out of range; expected 0 to 999999"):
        _ = dataset(reader, tmp_path / "birds").listing


def test_a_table_without_the_bytes_reads_no_other_file(tmp_path: Path) -> None:
    """A row may name any file of the machine; only bytes in the table are read."""
    (tmp_path / "secret.jpg").write_bytes(PICTURES[0])
    rows = {"image": [{"bytes": None, "path": str(tmp_path / "secret.jpg")}], "label": ["a"]}
    kinds = {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    bare = datasets.Dataset.from_dict(
        rows, features=datasets.Features({**kinds, "label": datasets.Value("string")})
    )
    bare.to_parquet(tmp_path / "birds.parquet")
    typed = datasets.Dataset.from_parquet(str(tmp_path / "birds.parquet"))
    typed = typed.cast_column("image", datasets.Image(decode=False))
    typed.to_parquet(tmp_path / "typed.parquet")
    found = dataset("huggingface", tmp_path / "typed.parquet")
    with pytest.raises(AbsError, match="no image bytes, only the path of a file"):
        _ = found.listing


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path / "birds")
    (arrow,) = (tmp_path / "birds").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(AbsError, match="birds cannot be read: ") as error:
        _ = dataset("huggingface", tmp_path / "birds").listing
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    with pytest.raises(MissingInput, match="neither the output of save_to_disk nor Parquet"):
        _ = dataset("huggingface", tmp_path / "birds").listing


# --- WebDataset -------------------------------------------------------------------------------


def shards(folder: Path, pattern: str = "%d.tar", count: int = 2, **members: list[Any]) -> None:
    """The pictures in shards of `count`, as the library writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(str(folder / pattern), maxcount=count, verbose=0) as writer:
        for n, content in enumerate(PICTURES):
            more = {suffix: values[n] for suffix, values in members.items()}
            writer.write({"__key__": f"s{n:06d}", "jpg": content, **more})


def as_the_library_reads(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    urls = [str(path) for path in sorted(folder.rglob("*.tar"))]
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        yield sample["jpg"], sample["cls"]


def test_shards_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    shards(root / "test", cls=LABELS)
    (root / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    found = dataset("webdataset", root)
    expected = [(content, NAMES[int(cls)]) for content, cls in as_the_library_reads(root)]
    assert told(found) == expected == EXPECTED
    assert [path for path, _ in found.samples][:3] == [
        "test/0.tar/s000000.jpg",
        "test/0.tar/s000001.jpg",
        "test/1.tar/s000002.jpg",
    ]


JSON = [{"label": NAMES[label], "species": f"s{label}"} for label in LABELS]


@pytest.mark.parametrize(
    ("members", "label", "names"),
    [
        ({"cls": [NAMES[label] for label in LABELS]}, None, ("auk", "crane", "wren")),
        ({"json": JSON}, None, ("auk", "crane", "wren")),
        ({"json": JSON}, "species", ("s0", "s1", "s2")),
        ({"json": JSON, "txt": [f"t{label}" for label in LABELS]}, "txt", ("t0", "t1", "t2")),
    ],
)
def test_where_labels_are(
    tmp_path: Path, members: dict[str, list[Any]], label: str | None, names: tuple[str, ...]
) -> None:
    shards(tmp_path / "birds", **members)
    found = dataset("webdataset", tmp_path / "birds", label=label)
    assert found.classes.names == names
    order = sorted(set(LABELS)) if label else [2, 1, 0]
    assert [label for _, label in found.samples] == [order.index(label) for label in LABELS]


@pytest.mark.parametrize(
    ("places", "split", "taken"),
    [
        ({"train": "%d.tar", "test": "%d.tar"}, "test", "test/"),
        ({".": "birds-train-%06d.tar", "./": "birds-val-%06d.tar"}, "val", "birds-val-"),
        ({"x/train": "%d.tar", "x/val": "%d.tar"}, "x/val", "x/val/"),
    ],
)
def test_splits_are_never_mixed(
    tmp_path: Path, places: dict[str, str], split: str, taken: str
) -> None:
    for folder, pattern in places.items():
        shards(tmp_path / "birds" / folder, pattern, cls=["a"] * 5)
    with pytest.raises(ConfigError, match=r"dataset\.split: .* several splits; choose one of"):
        _ = dataset("webdataset", tmp_path / "birds").listing
    found = dataset("webdataset", tmp_path / "birds", split=split)
    assert len(found.samples) == 5
    assert all(path.startswith(taken) for path, _ in found.samples)


def add(tar: tarfile.TarFile, name: str, content: bytes, **more: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in more.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


def test_members_that_are_no_samples(tmp_path: Path) -> None:
    """Folders and meta files are passed over; everything else is counted, with its reason."""
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "__meta__.json", b"{}")
        add(tar, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "text.txt", b"a")
        add(tar, "a.b.JPG", PICTURES[0])
        add(tar, "a.cls", b"wren\n")
        add(tar, "deep/er.jpg", PICTURES[1])
        add(tar, "deep/er.json", b'{"label": "auk"}')
        add(tar, "é.png", PICTURES[2])
        add(tar, "é.cls", b"auk")
    found = dataset("webdataset", tmp_path, image="jpg", label=None)
    assert told(found) == [(PICTURES[1], "auk")]
    assert found.skipped == [
        ("0.tar/link.jpg", NO_FILE),
        ("0.tar/text.txt", NOT_AN_IMAGE),
        ("0.tar/a.b.JPG", DOTS),
        ("0.tar/é", "a sample without an image"),
    ]
    assert [path for path, _ in dataset("webdataset", tmp_path).samples] == [
        "0.tar/deep/er.jpg", "0.tar/é.png",
    ]  # fmt: skip


def test_a_member_that_leaves_the_folder(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "../../etc/x.jpg", PICTURES[0])
        add(tar, "../../etc/x.cls", b"a")
    with pytest.raises(AbsError, match="is outside the folder"):
        _ = dataset("webdataset", tmp_path).samples


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b"x")], "a has no label; expected cls or json among jpg"),
        ([("a.jpg", b"x"), ("a.cls", b" ")], "no sample has a label"),
        ([("a.jpg", b"x"), ("a.cls", b"\xff")], "a.cls is not UTF-8"),
        ([("a.jpg", b"x"), ("a.json", b"{")], "a.json has no field 'label'"),
        ([("a.jpg", b"x"), ("a.json", b'{"label": [1]}')], "a.json, field 'label': expected"),
        ([("a.jpg", b"x"), ("a.png", b"x"), ("a.cls", b"1")], "choose a suffix"),
        ([("a.jpg", b"x"), ("a.cls", b"1"), ("b.jpg", b"x"), ("b.cls", b"x")], "numbers and names"),
        ([("a.jpg", b"x"), ("a.cls", b"x")] * 2, "sample 'a' do not lie together"),
        ([("a.cls", b"1")], "no images in 1 shards"),
    ],
)
def test_samples_that_say_nothing(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for n, (name, content) in enumerate(members):
            if n == 2 and name == members[0][0]:
                add(tar, "between.txt", b"")
            add(tar, name, content)
    with pytest.raises((AbsError, ConfigError), match=message):
        _ = dataset("webdataset", tmp_path).listing


Members = list[tuple[str, bytes]]
LABEL = b"wren"


@pytest.mark.parametrize(
    ("members", "taken", "skipped"),
    [
        (
            [("i_1.0.jpg", b"0"), ("i_1.0.cls", LABEL), ("i_1.1.jpg", b"1"), ("i_1.1.cls", LABEL)],
            [],
            {"i_1.0.jpg": DOTS, "i_1.1.jpg": DOTS},
        ),
        ([("v.jpg", b"0"), ("v.1.jpg", b"1"), ("v.cls", LABEL)], ["v.jpg"], {"v.1.jpg": DOTS}),
        (
            [("v.jpg", b"0"), ("v.JPG", b"1"), ("v.cls", LABEL)],
            [],
            dict.fromkeys(("v.jpg", "v.JPG"), "its sample has 2 files .jpg"),
        ),
        (
            [("v.jpg", b"0"), ("v.cls", LABEL), ("v.cls", b"auk")],
            [],
            {"v.jpg": "its sample has 2 files .cls"},
        ),
        ([("v.avif", b"0"), ("v.cls", LABEL)], ["v.avif"], {}),
        (
            [("v.jp2", b"0")],
            [],
            {"v.jp2": "has no label; expected cls or json among jp2"},
        ),
        ([("v.heic", b"0"), ("v.cls", LABEL)], [], {"v.heic": FOREIGN_FORMAT}),
        ([("v", PICTURES[1]), ("w", b"no image")], [], {"v": OTHER_SUFFIX, "w": NOT_AN_IMAGE}),
        ([("v.image", PICTURES[1])], [], {"v.image": OTHER_SUFFIX}),
        ([("v.jpg", b"0"), ("v.cls", b"\xff")], [], {"v.jpg": ".cls is not UTF-8"}),
        (
            [("v.jpg", b"0"), ("v.json", b"[" * 100_000)],
            [],
            {"v.jpg": ".json has no field 'label'; set dataset.label"},
        ),
        ([("v.jpg", b"0"), ("v.cls", b"\xef\xbb\xbfwren")], ["v.jpg"], {}),
        ([("__MACOSX/v.jpg", b"0"), (".v.jpg", b"0"), ("__meta__.json", b"{}")], [], {}),
        ([("__v.jpg", b"0"), ("__v.cls", LABEL)], ["__v.jpg"], {}),
    ],
)
def test_whatever_is_in_a_shard_is_taken_or_counted(
    tmp_path: Path, members: Members, taken: list[str], skipped: dict[str, str]
) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, content in [("z.jpg", b"z"), ("z.cls", LABEL), *members]:
            add(tar, name, content)
    found = dataset("webdataset", tmp_path)
    assert [path for path, _ in found.samples] == sorted(f"0.tar/{n}" for n in [*taken, "z.jpg"])
    assert dict(found.skipped) == {f"0.tar/{name}": reason for name, reason in skipped.items()}
    assert len(found.skipped) == len(skipped)
    assert found.classes.names == ("wren",)


def test_links_in_a_shard_lead_to_what_lies_before_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "a/0.jpg", PICTURES[0])
        add(tar, "a/0.cls", b"auk")
        for name, kind, target in (
            ("a/1.jpg", tarfile.SYMTYPE, "0.jpg"),
            ("a/1.cls", tarfile.LNKTYPE, "a/0.cls"),
            ("a/2.jpg", tarfile.SYMTYPE, "../b/later.jpg"),
            ("a/2.cls", tarfile.LNKTYPE, "a/0.cls"),
            ("a/3.jpg", tarfile.LNKTYPE, "a/0.jpg"),
            ("a/3.cls", tarfile.SYMTYPE, "/etc/hostname"),
        ):
            add(tar, name, b"", type=kind, linkname=target)
        add(tar, "b/later.jpg", PICTURES[2])
        add(tar, "b/later.cls", b"wren")
    found = dataset("webdataset", tmp_path)
    assert told(found) == [
        (PICTURES[0], "auk"), (PICTURES[0], "auk"), (PICTURES[2], "wren"),
    ]  # fmt: skip
    assert dict(found.skipped) == {
        "0.tar/a/2.jpg": NO_FILE,
        "0.tar/a/3.jpg": "has no label; expected cls or json among jpg",
    }


def test_files_among_the_shards_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    shards(root, cls=LABELS)
    (root / "classnames.txt").write_text("\n".join(NAMES))
    (root / "README.md").write_text("birds")
    (root / "more").mkdir()
    (root / "more" / "x.jpg").write_bytes(PICTURES[0])
    (root / "2.tar").rename(root / "2.TAR")
    found = dataset("webdataset", root)
    assert sorted(told(found)) == sorted(EXPECTED)
    assert dict(found.skipped) == {"README.md": NOT_AN_IMAGE, "more/x.jpg": "not in a shard"}
    (root / "3.tar.gz").write_bytes(b"")
    with pytest.raises(AbsError, match=r"3\.tar\.gz is compressed; decompress it"):
        _ = dataset("webdataset", root).listing


@pytest.mark.parametrize(("first", "missing"), [(0, 0), (0, 2), (1, 1), (1, 2)])
def test_a_shard_that_is_missing_is_named(tmp_path: Path, first: int, missing: int) -> None:
    root = tmp_path / "birds"
    shards(root, cls=LABELS)
    for n in range(3):
        (root / f"{n}.tar").rename(root / f"birds-{n + first:06d}-of-000003.tar")
    assert len(dataset("webdataset", root).listing.samples) == 5
    (root / f"birds-{missing:06d}-of-000003.tar").unlink()
    with pytest.raises(MissingInput, match=rf"part {missing} of 3 is not there beside birds-"):
        _ = dataset("webdataset", root).listing


@pytest.mark.parametrize("end", ["", "-b42abe2a2e3f5a3c"])  # as the hub wrote them in 2023
def test_a_parquet_file_that_is_missing_is_named(tmp_path: Path, end: str) -> None:
    whole = tmp_path / "birds" / "data"
    whole.mkdir(parents=True)
    for n in range(2):
        table().to_parquet(whole / f"train-0000{n}-of-00002{end}.parquet")
    table().to_parquet(whole / "test-00000-of-00001.parquet")
    assert len(dataset("huggingface", tmp_path / "birds", split="train").samples) == 10
    with pytest.raises(MissingInput, match="part 1 of 2 is not there beside train-00000-of-00002"):
        _ = dataset("huggingface", whole / f"train-00000-of-00002{end}.parquet").listing
    (whole / f"train-00000-of-00002{end}.parquet").unlink()
    assert len(dataset("huggingface", tmp_path / "birds", split="test").samples) == 5
    with pytest.raises(MissingInput, match="part 0 of 2 is not there beside train-00001-of-00002"):
        _ = dataset("huggingface", tmp_path / "birds", split="train").listing


def test_numbers_without_names(tmp_path: Path) -> None:
    shards(tmp_path / "birds", cls=LABELS)
    with pytest.raises(
        ConfigError, match=r"dataset\.names: classes have identifiers for names, such as 0"
    ):
        _ = dataset("webdataset", tmp_path / "birds").classes
    (tmp_path / "birds" / "classnames.txt").write_text("wren\ncrane\n")
    with pytest.raises(AbsError, match="label 2 is out of range; expected 0 to 1"):
        _ = dataset("webdataset", tmp_path / "birds").classes


def cut(content: bytes, place: int) -> bytes:
    return content[:place]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("harm", "place"),
    [(cut, 3), (cut, 700), (cut, 2000), (cut, 2048), (cut, 2600), (flipped, 100), (flipped, 2100)],
)
def test_a_shard_that_is_damaged(
    tmp_path: Path, harm: Callable[[bytes, int], bytes], place: int
) -> None:
    """In an image, in a header, and where one member ends and the next should begin."""
    shards(tmp_path / "birds", cls=["a"] * 5)
    shard = tmp_path / "birds" / "1.tar"
    members = tarfile.open(shard).getmembers()  # noqa: SIM115
    assert members[1].offset == 2048
    shard.write_bytes(harm(shard.read_bytes(), place))
    with pytest.raises(AbsError, match=r"1\.tar is damaged or not a plain tar"):
        _ = dataset("webdataset", tmp_path / "birds").listing


def test_shards_that_were_joined_with_cat(tmp_path: Path) -> None:
    shards(tmp_path / "birds", cls=["a"] * 5)
    first, second = (tmp_path / "birds" / f"{n}.tar" for n in (0, 1))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(AbsError, match="it has data after its end"):
        _ = dataset("webdataset", tmp_path / "birds").listing


def test_a_shard_that_changes_under_way(tmp_path: Path) -> None:
    shards(tmp_path / "birds", cls=["a"] * 5)
    found = dataset("webdataset", tmp_path / "birds")
    path, _ = found.samples[0]
    shard = tmp_path / "birds" / "0.tar"
    os.truncate(shard, 600)
    with pytest.raises(
        AbsError, match=r"0\.tar/s000000\.jpg: the shard ends before the member does"
    ):
        found.contents.read(path)


# --- Both, in the pipeline --------------------------------------------------------------------


def packed(run: Run, reader: str, root: Path) -> None:
    """The images of a run's dataset in another form; class names as they were."""
    of_run = run.named("index")[0].dataset  # type: ignore[attr-defined]
    names, rows = of_run.classes.names, of_run.samples
    contents = [of_run.contents.read(path) for path, _ in rows]
    if reader == "webdataset":
        root.mkdir()
        with webdataset.ShardWriter(str(root / "%d.tar"), maxcount=3, verbose=0) as writer:
            for n, (content, (_, label)) in enumerate(zip(contents, rows, strict=True)):
                writer.write({"__key__": f"{n:04d}", "png": content, "cls": names[label]})
        return
    columns = {
        "image": [{"bytes": c, "path": None} for c in contents],
        "label": [label for _, label in rows],
    }
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    found = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    found.save_to_disk(str(root))


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["huggingface", "webdataset"])
def test_packed_images_give_the_numbers_of_the_same_images_in_folders(
    made: Run, run_of: Runner, tmp_path: Path, reader: str
) -> None:
    """Attention, crops and embeddings are the same to the byte; only names of images differ."""
    packed(made, reader, tmp_path / "packed")
    run = run_of(f"dataset.reader={reader}", f"dataset.root={tmp_path / 'packed'}")
    there, here = digests(made), make_all(run)
    same = [name for name in there if name.startswith(("attention", "embeddings", "descriptions"))]
    assert len(same) >= 5
    assert {name: here[name] for name in same} == {name: there[name] for name in same}
    assert made.store.open(made.named("metrics")[0]).table("metrics")["top1"].tolist() == (
        run.store.open(run.named("metrics")[0]).table("metrics")["top1"].tolist()
    )


def test_init_knows_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.core.layers.CFGS", tmp_path / "cfgs")
    saved_splits(tmp_path / "hf")
    shards(tmp_path / "wds", cls=LABELS)
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    path, found = write_dataset("one", tmp_path / "hf", split="test")
    assert "reader: huggingface\n  split: test" in path.read_text()
    assert len(found.samples) == 5
    path, found = write_dataset("two", tmp_path / "wds", names=tmp_path / "names.json")
    assert "reader: webdataset" in path.read_text()
    with pytest.raises(ConfigError, match="classes have identifiers for names"):
        write_dataset("three", tmp_path / "wds")
    assert not (tmp_path / "cfgs" / "datasets" / "three.yaml").exists()


@pytest.mark.parametrize("name", ["templates.txt", "zeroshot_classification_templates.txt"])
def test_init_offers_the_names_and_templates_of_clip_benchmark(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    root = tmp_path / "wds"
    for split in ("train", "test"):
        shards(root / split, cls=LABELS)
    (root / "classnames.txt").write_text("wren\nred_crane\nauk\n")
    (root / name).write_text("a photo of a {c}.\na drawing of a {c}.\n")
    with pytest.raises(ConfigError, match=r"dataset\.split: .*choose one of test, train"):
        write_dataset("birds", root)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.core.layers.CFGS", tmp_path / "cfgs")
        init_command("birds", str(root), split="test")
    said = capsys.readouterr().out
    assert f"5 images, 3 classes (3 shards in {root / 'test'}, classes named by " in said
    assert f"templates of clip-e: {root / name}" in said
    made = Run.of(str(tmp_path / "cfgs" / "datasets" / "birds.yaml"), "official", [], None, index)
    digests, found = read(made.settings)
    assert found.classes.names == ("wren", "red crane", "auk")
    texts = made.settings.descriptions["clip-e"]
    joined = ClassTexts("clip-e", texts, found.classes, made.settings.paths, digests)
    assert joined.texts[1] == ["a photo of a red crane.", "a drawing of a red crane."]


def test_names_may_be_lines_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    shards(tmp_path / "wds" / "test", cls=LABELS)
    (tmp_path / "wds" / "classnames.txt").write_text(
        "\ufeffwren\r\ncrane\nauk\n\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="one name per line, in the order of the numbers"):
        _ = dataset("webdataset", tmp_path / "wds" / "test").classes
    names = str(tmp_path / "wds" / "classnames.txt")
    assert told(dataset("webdataset", tmp_path / "wds" / "test", names=names)) == EXPECTED
    vocabulary = str(tmp_path / "wds" / "all.txt")
    Path(vocabulary).write_text("auk\ncrane\nowl\nwren\n")
    found = dataset("webdataset", tmp_path / "wds", vocabulary=vocabulary)
    assert found.classes.names == ("auk", "crane", "owl", "wren")
    assert told(found) == EXPECTED


def test_another_column_of_images_is_no_sample(tmp_path: Path) -> None:
    shards(tmp_path / "test", cls=LABELS, **{"seg.jpg": list(PICTURES)})
    (tmp_path / "classnames.txt").write_text("\n".join(NAMES))
    found = dataset("webdataset", tmp_path, image="jpg")
    assert told(found) == EXPECTED
    assert not found.skipped


def test_a_blank_line_among_names_is_refused(tmp_path: Path) -> None:
    shards(tmp_path / "test", cls=LABELS)
    (tmp_path / "classnames.txt").write_text("wren\n\ncrane\nauk\n")
    with pytest.raises(AbsError, match=r"classnames\.txt, line 2: expected a class name"):
        _ = dataset("webdataset", tmp_path).classes


def test_init_takes_no_archive_beside_the_images_for_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.layers.CFGS", tmp_path / "cfgs")
    for bird in ("auk", "wren"):
        (tmp_path / "birds" / bird).mkdir(parents=True)
        (tmp_path / "birds" / bird / "a.jpg").write_bytes(PICTURES[0])
    (tmp_path / "birds" / "state.json").write_text("{}")
    tarfile.open(tmp_path / "birds" / "wren" / "all.tar", "w").close()
    path, _ = write_dataset("one", tmp_path / "birds")
    assert "reader: folder" in path.read_text()


def test_init_takes_folders_of_any_depth_and_format_beside_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.layers.CFGS", tmp_path / "cfgs")
    for bird in ("auk", "wren"):
        (tmp_path / "birds" / bird / "deep").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "birds" / bird / "deep" / "a.avif")
    tarfile.open(tmp_path / "birds" / "all.tar", "w").close()
    path, found = write_dataset("one", tmp_path / "birds")
    assert "reader: folder" in path.read_text()
    assert found.skipped == [("all.tar", NOT_AN_IMAGE)]


def test_init_takes_the_advice_of_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Splits with a table each, as image folders of the Hugging Face library have them."""
    monkeypatch.setattr("pipeline.core.layers.CFGS", tmp_path / "cfgs")
    for split in ("train", "test"):
        (tmp_path / "birds" / split).mkdir(parents=True)
        for n, content in enumerate(PICTURES):
            (tmp_path / "birds" / split / f"{n}.jpg").write_bytes(content)
        rows = "".join(f"{n}.jpg,{NAMES[label]}\n" for n, label in enumerate(LABELS))
        (tmp_path / "birds" / split / "metadata.csv").write_text(f"file_name,bird\n{rows}")
    with pytest.raises(AbsError, match=r"set dataset\.root to one of them, such as .*/birds/test"):
        write_dataset("one", tmp_path / "birds")
    with pytest.raises(AbsError, match=r"no column 'label'; .*choose one by .*--label-column"):
        write_dataset("one", tmp_path / "birds" / "test")
    path, found = write_dataset("one", tmp_path / "birds" / "test", label_column="bird")
    assert "reader: manifest" in path.read_text()
    assert len(found.samples) == 5


def test_images_are_sorted_by_path_whatever_their_order_in_shards(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    for shard in ("1", "0"):
        with tarfile.open(tmp_path / "birds" / f"{shard}.tar", "w") as tar:
            for n in (3, 0, 4, 1, 2):
                add(tar, f"{n}.png", PICTURES[n])
                add(tar, f"{n}.cls", b"ab"[n % 2 :][:1])
    found = dataset("webdataset", tmp_path / "birds")
    assert found.samples == [(f"{s}.tar/{n}.png", n % 2) for s in "01" for n in range(5)]
    for path, _ in [*found.samples][::-1]:
        assert found.contents.read(path) == PICTURES[int(path[-5])]
    assert not found.contents.has("1.tar/5.png")


def test_digests_of_packed_images_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards(tmp_path / "birds", cls=["a"] * 5)
    first = dataset("webdataset", tmp_path / "birds").sha256_of_images()
    assert [decode(content).size for content in PICTURES] == [(40 + n, 30) for n in range(5)]
    again = dataset("webdataset", tmp_path / "birds")
    monkeypatch.setattr(type(again.contents), "read", lambda *_: pytest.fail("read again"))
    assert again.sha256_of_images() == first


def test_columns_are_for_tables(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="apply only to the readers manifest, huggingface, webdataset"
    ):
        _ = dataset("folder", tmp_path, label="x").listing
