"""Small datasets drawn at random: counts add up, labels are right, and errors are of the project.

More are drawn by `python -m tests.datasets.test_fuzzed 5000`.
"""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import tarfile
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from pipeline.core.errors import AbsError
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.listing import NOT_AN_IMAGE

Case = Callable[[random.Random, Path], bool]
CLASSES = ["auk", "Blue Jay", "crane", "bullet_train", "images of cats", "été"]
FORMATS = {"jpg": "JPEG", "PNG": "PNG", "avif": "AVIF", "jp2": "JPEG2000", "webp": "WEBP"}
FOREIGN = ["heic", "CR2", "jxl", "svg"]
OTHERS = {
    "txt": b"text", "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "h5": b"\x89HDF\r\n\x1a\n", "zip": b"PK",
}  # fmt: skip


def _pictures() -> dict[str, bytes]:
    found = {}
    for suffix, kind in FORMATS.items():
        file = io.BytesIO()
        Image.new("RGB", (4, 4), (9, 90, 30)).save(file, kind)
        found[suffix] = file.getvalue()
    return found


PICTURES = _pictures()


def read(reader: str, root: Path, **more: str) -> Dataset | None:
    """A dataset whose samples can be read; None if it says in one line why they cannot."""
    config = DatasetConfig(name="drawn", root=(str(root),), reader=reader, **more)
    store = root.parent / "store"
    found = Dataset(config, Paths(artifacts=str(store)), HashCache(store / "sha256.json"))
    names, error = (), ""
    try:
        names = found.classes.names
    except AbsError as refused:
        error = str(refused)
    assert error.count("\n") == 0
    assert error or len(names) > 1
    return None if error else found


def labels(found: Dataset) -> dict[str, str]:
    """The folder or stored label of each image by its path."""
    keys = [one.key for one in found.listing.classes]
    assert len({path for path, _ in found.samples}) == len(found.samples)
    return {path: keys[label] for path, label in found.samples}


def stem(draw: random.Random) -> str:
    return draw.choice(["a", "b", "IMG_1.0", "IMG_1.1", "x y", "é", "v", "V"])


# --- Folders ----------------------------------------------------------------------------------


def folder_case(draw: random.Random, root: Path) -> bool:
    """Draw class folders of images and other files, and compare; False if they are refused."""
    names = draw.sample(CLASSES, draw.randint(1, 4))
    images: dict[str, str] = {}
    foreign, others = set[str](), set[str]()
    for name in names:
        for _ in range(draw.randint(draw.random() > 0.1, 6)):
            inner = draw.choice(["", "deep/", "deep/er/", f"{name}.y/"])
            place = f"{name}/{inner}{stem(draw)}"
            kind = draw.random()
            if kind < 0.7:
                suffix = draw.choice([*FORMATS, "unknown", ""])
                path = f"{place}.{suffix}" if suffix else place
                written(root / path, PICTURES.get(suffix, PICTURES["jpg"]))
                images[path] = name
            elif kind < 0.85:
                path = f"{place}.{draw.choice(FOREIGN)}"
                written(root / path, b"of another program")
                foreign.add(path)
            else:
                suffix = draw.choice(list(OTHERS))
                written(root / f"{place}.{suffix}", OTHERS[suffix])
                others.add(f"{place}.{suffix}")
        (root / name).mkdir(exist_ok=True, parents=True)
    links = set[str]()
    if draw.random() < 0.3:
        link = f"{names[0]}/link"
        (root / link).symlink_to(draw.choice([root, root / names[-1]]))
        links.add(link)
    if draw.random() < 0.3:
        written(root / "beside.png", PICTURES["PNG"])
        foreign.add("beside.png")
    found = read("folder", root)
    if found is None:
        assert len(names) == 1 or set(names) != set(images.values()), "an error without a cause"
        return False
    assert labels(found) == images
    reasons = dict(found.skipped)
    assert set(reasons) == foreign | others | links
    assert len(found.skipped) == len(reasons)
    assert {path for path, reason in reasons.items() if reason == NOT_AN_IMAGE} == others
    return True


def written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# --- Shards -----------------------------------------------------------------------------------


def shard_case(draw: random.Random, root: Path) -> bool:
    """Draw shards of good and bad samples, and compare; False if they are refused."""
    root.mkdir(parents=True)
    images = Counter[str]()
    right: dict[str, str] = {}
    for number in range(draw.randint(1, 4)):
        with tarfile.open(root / f"{number}.tar", "w") as tar:
            for key in sorted({stem(draw) for _ in range(draw.randint(2, 8))}):
                members, label = sample(draw, f"{number}/{key}")
                for name, content in members:
                    add(tar, name, content)
                    images[f"{number}.tar/{name}"] += not name.endswith((".cls", ".json", ".txt"))
                if label is not None:
                    right[f"{number}.tar/{members[0][0]}"] = label
    found = read("webdataset", root)
    if found is None:
        assert len(set(right.values())) < 2, "an error without a cause"
        return False
    counted = [path for path, reason in found.skipped if reason != NOT_AN_IMAGE]
    assert Counter([path for path, _ in found.samples] + counted) == +images
    assert labels(found) == right
    return True


def sample(draw: random.Random, key: str) -> tuple[list[tuple[str, bytes]], str | None]:
    """Draw the files of one sample in the order of a shard, and its label; None if it has none."""
    suffix, label = draw.choice([*FORMATS, *FORMATS, *FOREIGN]), draw.choice(CLASSES)
    image = (f"{key}.{suffix}", PICTURES.get(suffix, b"of another program"))
    good = [("cls", label.encode()), ("cls", b"\xef\xbb\xbf" + label.encode()),
            ("json", json.dumps({"label": label}).encode())]  # fmt: skip
    bad = [("cls", b"\xff"), ("cls", b""), ("json", b"{"), ("json", b"[]"), ("json", b"3"),
           ("json", b'{"label": null}'), ("txt", b"no label")]  # fmt: skip
    kind = draw.random()
    if kind < 0.6:
        ending, content = draw.choice(good)
        taken = suffix in FORMATS and "." not in Path(key).name
        return [image, (f"{key}.{ending}", content)], label if taken else None
    if kind < 0.85:
        ending, content = draw.choice(bad)
        return [image, (f"{key}.{ending}", content)], None
    if kind < 0.95:
        name = key.replace(".", "-") + draw.choice(["", ".unknown"])
        return [(name, PICTURES["jpg"])], None
    return [image, image, (f"{key}.cls", label.encode())], None


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


# --- Tables -----------------------------------------------------------------------------------

STYLES: dict[str, Any] = {"name": pa.string(), "text": pa.string(), "int": pa.int64(),
                          "float": pa.float64()}  # fmt: skip
"""What labels are, and their type in a column: a name, or a number as one of three types."""
MISSING: dict[str, list[Any]] = {"name": [None, "", " "], "text": [None, "", " ", "\ufeff"],
                                 "int": [None], "float": [None]}  # fmt: skip
WRONG: dict[str, list[Any]] = {"name": ["NA", "0.5", "['auk']", "2024-01-01", "a\tb"],
                               "text": ["nan", "0.5"], "int": [],
                               "float": [0.5, float("nan")]}  # fmt: skip


def spellings(name: str) -> list[str]:
    """Different texts of one name."""
    return [name, f" {name}", f"{name}\u200f", f"{name}\u00a0", unicodedata.normalize("NFD", name)]


class Table:
    """Labels as a column holds them, drawn at random, and the class that each stands for."""

    def __init__(self, draw: random.Random) -> None:
        self.style = draw.choice(list(STYLES))
        self.names = draw.sample(CLASSES, draw.randint(1, 4))
        self.labels: list[Any] = []
        self.right: list[str | None] = []
        """Class of each row; None for a row without a label."""
        self.refused = False
        usual = {name: draw.choice(spellings(name)) for name in CLASSES}
        for _ in range(draw.randint(2, 12)):
            kind, number = draw.random(), draw.randrange(len(self.names))
            name = self.names[number]
            if kind < 0.15:
                self._add(draw.choice(MISSING[self.style]), None)
            elif kind < 0.17 and WRONG[self.style]:
                self._add(draw.choice(WRONG[self.style]), None)
                self.refused = True
            elif self.style == "name":
                self._add(draw.choice(spellings(name)) if kind < 0.19 else usual[name], name)
            else:
                forms = {"text": [f"{number}", f"{number}.0", f" {number}"], "int": [number]}
                self._add(draw.choice(forms.get(self.style, [float(number)])), name)
        texts = {label for label in self.labels if isinstance(label, str) and label.strip()}
        several = any(len(texts & set(spellings(name))) > 1 for name in CLASSES)
        self.refused |= self.style == "name" and several

    def _add(self, label: Any, name: str | None) -> None:
        self.labels.append(label)
        self.right.append(name)

    def read(self, reader: str, root: Path) -> Dataset | None:
        """Read the table at `root`; a list names its numbers."""
        if self.style == "name":
            return read(reader, root)
        names = root.parent / "names.txt"
        names.write_text("\n".join(self.names), encoding="utf-8")
        return read(reader, root, names=str(names))

    def single(self, rows: Iterable[int]) -> bool:
        """Whether only one class competes, where `rows` are those that have classes."""
        own = {self.right[i] for i in rows if self.right[i]}
        return len(own if self.style == "name" else self.names) < 2 or not own


def check(
    found: Dataset | None, table: Table, paths: list[str], taken: list[bool], refused: bool
) -> bool:
    """Compare what was read with a table; `taken` are the rows whose image is there."""
    if found is None:
        assert refused, "an error without a cause"
        return False
    assert not refused, "no error"
    rows = list(zip(paths, table.right, taken, strict=True))
    right = {path: name.replace("_", " ") for path, name, there in rows if name and there}
    assert {path: found.classes.names[label] for path, label in found.samples} == right
    left_out = [path for path, name, there in rows if not (name and there)]
    assert sorted(path for path, _ in found.skipped) == sorted(left_out)
    assert len(found.samples) + len(found.skipped) == len(paths)
    return True


def file_table_case(draw: random.Random, root: Path, suffix: str) -> bool:
    """Draw a table of files, some of them missing, and compare; False if it is refused."""
    table = Table(draw)
    root.mkdir(parents=True)
    count = len(table.labels)
    paths = [f"{draw.choice('ab')}/{stem(draw)}{i}.jpg" for i in range(count)]
    if draw.random() < 0.1:
        paths[-1] = paths[0]
    named = [draw.random() < 0.95 for _ in paths]
    there = [draw.random() < 0.9 for _ in paths]
    for path, exists in zip(paths, there, strict=True):
        if exists:
            written(root / path, PICTURES["jpg"])
    cells = [path if known else None for path, known in zip(paths, named, strict=True)]
    write_table(root / f"manifest{suffix}", cells, table)
    listed = [i for i in range(count) if named[i] and table.right[i]]
    own = [paths[i] for i in listed]
    found = table.read("manifest", root)
    shown = [path if known else f"row {i}" for i, (path, known) in
             enumerate(zip(paths, named, strict=True), 1)]  # fmt: skip
    taken = [known and (root / path).exists() for path, known in zip(paths, named, strict=True)]
    refused = table.refused or table.single(listed) or len(set(own)) < len(own)
    return check(found, table, shown, taken, refused or not any(taken[i] for i in listed))


def write_table(file: Path, paths: list[str | None], table: Table) -> None:
    if file.suffix == ".parquet":
        labels = pa.array(table.labels, STYLES[table.style])
        parquet.write_table(pa.table({"path": pa.array(paths, pa.string()), "label": labels}), file)
        return
    with open(file, "w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["path", "label"])
        rows.writerows(zip(paths, table.labels, strict=True))


def csv_case(draw: random.Random, root: Path) -> bool:
    return file_table_case(draw, root, ".csv")


def parquet_case(draw: random.Random, root: Path) -> bool:
    return file_table_case(draw, root, ".parquet")


def huggingface_case(draw: random.Random, root: Path) -> bool:
    """Draw a table with its images, saved by the library; False if it is refused."""
    table = Table(draw)
    count, image = len(table.labels), {"bytes": PICTURES["jpg"], "path": None}
    images = [image if draw.random() < 0.9 else None for _ in range(count)]
    if table.style == "int" and draw.random() < 0.5:
        table.labels = [-1 if label is None else label for label in table.labels]
    kinds = {"name": "string", "text": "string", "int": "int64", "float": "float64"}
    kind = datasets.Value(kinds[table.style])
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    columns = {"image": images, "label": table.labels}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(root))
    found = table.read("huggingface", root)
    taken = [each is not None for each in images]
    labelled = [i for i in range(count) if table.right[i]]
    refused = table.refused or table.single(labelled) or not any(taken[i] for i in labelled)
    return check(found, table, [f"all/{i:07d}" for i in range(count)], taken, refused)


# --- All --------------------------------------------------------------------------------------

KINDS: dict[Case, int] = {
    folder_case: 200, shard_case: 200, csv_case: 200, parquet_case: 100, huggingface_case: 40,
}  # fmt: skip
"""Kinds of datasets, and how many of each are drawn in the suite."""


@pytest.mark.slow
@pytest.mark.parametrize("case", KINDS)
def test_counts_add_up(tmp_path: Path, case: Case) -> None:
    seeds = range(KINDS[case])
    read = [case(random.Random(seed), tmp_path / str(seed) / "images") for seed in seeds]
    assert sum(read) > len(seeds) / 3


def main(count: int) -> None:
    """Draw `count` datasets of each kind and say how many were read, and how many refused."""
    datasets.disable_progress_bars()
    for case in KINDS:
        read = 0
        for seed in range(count):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    read += case(random.Random(seed), Path(folder) / "root")
                except BaseException:
                    print(f"{case.__name__}, seed {seed}:")
                    raise
        print(f"{case.__name__}: {read} of {count} read, {count - read} refused", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
