"""What a dataset came to is remembered, and never where one of its files has changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from PIL import Image

from pipeline.bench.large import CLASSES, write_shards
from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.datasets import dataset as dataset_module
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.readers import shard_samples
from tests.helpers.runs import said

IMAGES = 24


def write_folder(folder: Path) -> Path:
    for i in range(IMAGES):
        path = folder / f"bird {i % CLASSES}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2 + i, 3), (9 * i, 90, 90)).save(path)
    return folder


MAKE: dict[str, Callable[[Path], Path]] = {
    "folder": write_folder,
    "webdataset": lambda folder: write_shards(folder, IMAGES, size=10),
}


def opened(root: Path, reader: str, store: str = "store", **more: Any) -> Dataset:
    config = DatasetConfig(name="birds", root=(str(root),), reader=reader, **more)
    place = root.parent / store
    return Dataset(config, Paths(artifacts=str(place)), HashCache(place / "sha256"))


def told(found: Dataset) -> tuple[Any, ...]:
    return found.identity(), found.classes, found.count


def afresh(root: Path, reader: str, **more: Any) -> tuple[Any, ...]:
    """What a command finds that remembers nothing."""
    for path in (root.parent / "new").rglob("*"):
        path.unlink() if path.is_file() else None
    return told(opened(root, reader, "new", **more))


@pytest.mark.parametrize("reader", MAKE)
def test_files_that_have_not_changed_are_not_listed_again(
    tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = MAKE[reader](tmp_path / "images")
    before = told(opened(root, reader))
    assert before[2] == IMAGES
    with monkeypatch.context() as patch:
        patch.setattr(dataset_module, "reader_of", lambda *_: 1 / 0)
        assert told(opened(root, reader)) == before
    assert [path for path, _ in opened(root, reader).samples]


def images(root: Path) -> list[Path]:
    """The files that hold images."""
    return sorted(path for path in root.rglob("*.*") if path.suffix in (".png", ".tar"))


def overwrite(root: Path) -> None:
    """Change a file in place, with its size and time as they were."""
    path = images(root)[0]
    stat, content = path.stat(), bytearray(path.read_bytes())
    place = content.index(b"IEND")
    content[place + 8 if path.suffix == ".tar" else 45] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(root: Path) -> None:
    path = images(root)[-1]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content.replace(b"IEND", b"IENd", 1))


def rename(root: Path) -> None:
    path = images(root)[-1]
    path.rename(path.with_stem(f"{path.stem}9"))


def add(root: Path) -> None:
    other = images(root)[-1]
    name = "test-00003.tar" if other.suffix == ".tar" else "100.png"
    (other.parent / name).write_bytes(other.read_bytes())


def link(root: Path) -> None:
    """A link that leads elsewhere than before."""
    (root.parent / "a.txt").write_text("a")
    (root / "notes.txt").symlink_to(root.parent / "a.txt")


@pytest.mark.parametrize("change", [overwrite, replace, rename, add, link])
@pytest.mark.parametrize("reader", MAKE)
def test_a_changed_file_is_never_taken_for_what_it_was(
    tmp_path: Path, reader: str, change: Callable[[Path], None]
) -> None:
    root = MAKE[reader](tmp_path / "images")
    before = told(opened(root, reader))
    change(root)
    after = told(opened(root, reader))
    assert after == afresh(root, reader)
    assert after[0] != before[0]
    assert told(opened(root, reader)) == after


def folder_for_link(root: Path) -> None:
    """A link and the class that it leads to change places: the same files under the same names."""
    (root / "auk").unlink()
    (root / "bird 0").rename(root / "auk")
    (root / "bird 0").symlink_to("auk")


def other_target(root: Path) -> None:
    """A link that leads to another of the folders that links lead to already."""
    (root / "bird 2" / "linked").unlink()
    (root / "bird 2" / "linked").symlink_to(root.parent / "other 1")


@pytest.mark.parametrize("change", [folder_for_link, other_target])
def test_a_link_in_place_of_a_folder_is_never_taken_for_what_it_was(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = write_folder(tmp_path / "images")
    (root / "auk").symlink_to("bird 0")
    for i in range(3):
        other = root.parent / f"other {i % 2}"
        other.mkdir(exist_ok=True)
        Image.new("RGB", (3 + i, 2)).save(other / "1.png")
        (root / f"bird {i}" / "linked").symlink_to(other)
    before = told(opened(root, "folder"))
    change(root)
    after = told(opened(root, "folder"))
    assert after == afresh(root, "folder")
    assert after[0] != before[0]


@pytest.mark.parametrize("reader", MAKE)
def test_names_and_settings_count(tmp_path: Path, reader: str) -> None:
    root, names = MAKE[reader](tmp_path / "images"), tmp_path / "names.json"
    told(opened(root, reader))
    for prefix in ("owl", "auk"):
        listed = {f"bird {i}": f"{prefix} {i}" for i in range(CLASSES)}
        names.write_text(json.dumps(listed))
        found = opened(root, reader, names=str(names))
        assert found.classes.names[3] == f"{prefix} 3"
        assert told(found) == afresh(root, reader, names=str(names))
    assert opened(root, reader).classes.names[3] == "bird 3"


def test_a_change_while_files_are_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = MAKE["folder"](tmp_path / "images")
    real = HashCache.sha256_many

    def slow(self: HashCache, *words: Any) -> Any:
        found = real(self, *words)
        replace(root)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(HashCache, "sha256_many", slow)
        told(opened(root, "folder"))
    assert told(opened(root, "folder")) == afresh(root, "folder")


HOUR = 3600 * 10**9
"""Step of the timestamps of a coarse file system, in nanoseconds."""


def make_coarse(patch: pytest.MonkeyPatch) -> None:
    """Give all files timestamps of whole hours."""
    real = os.stat

    def coarse(*words: Any, **named: Any) -> Any:
        found = real(*words, **named)
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        for name in ("st_mtime_ns", "st_ctime_ns"):
            values[name] -= values[name] % HOUR
        return SimpleNamespace(**values)

    patch.setattr(os, "stat", coarse)


@pytest.mark.parametrize("reader", MAKE)
def test_a_change_within_one_step_of_timestamps_is_seen(
    tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = MAKE[reader](tmp_path / "images")
    with monkeypatch.context() as patch:
        make_coarse(patch)
        before = told(opened(root, reader))
        overwrite(root)
        assert told(opened(root, reader)) == before  # were a step taken to be fine
        patch.setattr(files, "TICK", HOUR)
        (root.parent / "store").rename(root.parent / "other")
        before = told(opened(root, reader))
        overwrite(root)
        after = told(opened(root, reader))
        assert after == afresh(root, reader) != before


def test_a_damaged_memory_is_none(tmp_path: Path) -> None:
    root = MAKE["folder"](tmp_path / "images")
    found = opened(root, "folder")
    before, memory = told(found), found.paths.memory("birds.listing")
    whole = memory.read_bytes()
    for place in range(0, len(whole), 37):
        memory.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert told(opened(root, "folder")) == before
    memory.write_bytes(b"{}")
    assert told(opened(root, "folder")) == before


def test_other_code_lists_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = MAKE["folder"](tmp_path / "images")
    told(opened(root, "folder"))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.datasets.remembered.code_that_lists", lambda: "other code")
        patch.setattr(dataset_module, "reader_of", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            told(opened(root, "folder"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose headers are read from now on."""
    found: list[str] = []
    real = shard_samples._members

    def members(file: BinaryIO) -> Any:
        found.append(Path(file.name).name)
        return real(file)

    monkeypatch.setattr(shard_samples, "_members", members)
    return found


def make_old(root: Path) -> None:
    """Let the last TICK pass, within which a file may change again without another timestamp."""
    until = max(path.stat().st_ctime_ns for path in root.iterdir()) + files.TICK
    while time.time_ns() <= until:
        time.sleep(0.05)


def listed(found: Dataset) -> Any:
    """What lies where, whole."""
    contents = {path: found.contents.read(path) for path, _ in found.samples}
    return found.samples, found.skipped, contents


def test_a_shard_that_has_changed_is_read_again_alone(tmp_path: Path, read: list[str]) -> None:
    root = write_shards(tmp_path / "images", IMAGES, size=10)
    make_old(root)
    told(opened(root, "webdataset"))
    assert read == [f"test-0000{n}.tar" for n in range(3)]
    read.clear()
    listed(opened(root, "webdataset"))
    assert not read
    for change in (replace, overwrite):
        change(root)
        found = opened(root, "webdataset")
        assert listed(found) == listed(opened(root, "webdataset", "new"))
        assert found.identity()["files"] == afresh(root, "webdataset")[0]["files"]
    assert read[:4] == ["test-00002.tar", *(f"test-0000{n}.tar" for n in range(3))]


def test_what_a_shard_held_counts_for_its_columns_alone(tmp_path: Path, read: list[str]) -> None:
    root = write_shards(tmp_path / "images", IMAGES, size=IMAGES)
    make_old(root)
    for columns in ({}, {"label": "cls"}, {"label": "png"}, {"label": "cls"}):
        with suppress(AbsError):
            told(opened(root, "webdataset", **columns))
    assert len(read) == 3


def test_a_damaged_memory_of_a_shard_is_none(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "images", 4, size=4)
    make_old(root)
    found = opened(root, "webdataset")
    before = listed(found)
    (memory,) = found.paths.memory("birds.shards").iterdir()
    whole = memory.read_bytes()
    for place in range(0, len(whole), 37):
        memory.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert listed(opened(root, "webdataset")) == before
    memory.unlink()
    memory.mkdir()  # so that nothing can be kept
    assert listed(opened(root, "webdataset")) == before


@pytest.mark.slow
def test_a_deep_look_trusts_no_memory(made: Any, tiny: Path) -> None:
    memory = made.store.root / ".memory" / "sha256-tiny.listing"
    kept = files.read_sealed(memory, "it")
    files.write_sealed(memory, kept | {"digest": "0" * 16})
    words = ["verify", "--deep", "--dataset", tiny, "--set", "scores.n=4"]
    assert said(*words).returncode == 0
    assert files.read_sealed(memory, "it")["digest"] == kept["digest"]
