"""Small datasets drawn at random: counts add up, labels are right, and errors are of the project.

More are drawn by `python -m tests.datasets.test_fuzzed 5000`.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipeline.core.errors import AbsError
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.listing import NOT_AN_IMAGE

Case = Callable[[random.Random, Path], bool]
CASES = 200
"""Datasets of each kind that are drawn in the suite."""

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


def read(reader: str, root: Path) -> Dataset | None:
    """A dataset whose samples can be read; None if it says in one line why they cannot."""
    config = DatasetConfig(name="drawn", root=(str(root),), reader=reader)
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


# --- Both -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [folder_case, shard_case])
def test_counts_add_up(tmp_path: Path, case: Case) -> None:
    read = [case(random.Random(seed), tmp_path / str(seed) / "images") for seed in range(CASES)]
    assert sum(read) > CASES / 3


def main(count: int) -> None:
    """Draw `count` datasets of each kind and say how many were read, and how many refused."""
    for case in (folder_case, shard_case):
        read = 0
        for seed in range(count):
            with tempfile.TemporaryDirectory() as folder:
                read += case(random.Random(seed), Path(folder) / "root")
        print(f"{case.__name__}: {read} of {count} read, {count - read} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]))
