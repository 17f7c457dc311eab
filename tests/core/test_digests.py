"""Digests of files, which are remembered as long as a file stays as it was."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.core import files, hash_cache
from pipeline.core.hash_cache import HashCache
from pipeline.datasets.contents import FolderContents


def test_a_digest_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, file = tmp_path / "memory", tmp_path / "file"
    file.write_bytes(b"one")
    first = HashCache(memory).sha256(file)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.core.hash_cache.sha256_of", lambda _: "read again")
        assert HashCache(memory).sha256(file) == first
        file.write_bytes(b"two!")
        assert HashCache(memory).sha256(file) == "read again"
    (kept,) = memory.iterdir()
    content = kept.read_text()
    for damaged in (content.replace("read again", "remembered"), "{ damaged", "", "\n[]"):
        kept.write_text(damaged)
        assert HashCache(memory).sha256(file) == hashlib.sha256(b"two!").hexdigest()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_memory_that_is_written_in_pieces_is_read_whole(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.hash_cache.SAVE_EVERY", 2)
    names = [f"{i}" for i in range(count)]
    for name in names:
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    expected = [hashlib.sha256(b"content of " + name.encode()).hexdigest() for name in names]
    contents, hashed = FolderContents(tmp_path), list[int]()
    for known in (0, count):
        hashed.clear()
        cache = HashCache(tmp_path / "memory")
        assert cache.sha256_many(contents, names, hashed.append) == expected
        assert hashed == [known, *[1] * (count - known)]
    (kept,) = (tmp_path / "memory").iterdir()
    seal, _, rest = kept.read_bytes().partition(b"\n")
    assert seal.decode() == hashlib.sha256(rest).hexdigest()
    assert list(json.loads(rest)) == [str(tmp_path / name) for name in names]


@dataclass(frozen=True)
class Watched(FolderContents):
    """Files below a folder; `seen` has those that were read."""

    seen: list[str] = field(default_factory=list)

    def read(self, path: str) -> bytes:
        self.seen.append(path)
        return super().read(path)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Files of which none counts as too young to be remembered."""
    monkeypatch.setattr(files, "TICK", 0)
    for folder in "abc":
        (tmp_path / "images" / folder).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "images" / folder / f"{i}").write_text(f"{folder} {i}")
    return Watched(tmp_path / "images")


PATHS = [f"{folder}/{i}" for i in range(3) for folder in "abc"]
EXPECTED = [hashlib.sha256(path.replace("/", " ").encode()).hexdigest() for path in PATHS]


def test_a_changed_file_is_hashed_alone_whatever_its_group(
    tmp_path: Path, watched: Watched
) -> None:
    def found() -> list[str]:
        return HashCache(tmp_path / "memory").sha256_many(watched, PATHS, lambda _: None)

    (tmp_path / "memory").write_text("the one file of an older version")
    assert found() == EXPECTED
    assert sorted(watched.seen) == sorted(PATHS)
    watched.seen.clear()
    (tmp_path / "images/b/1").write_text("other")
    after = found()
    assert watched.seen == ["b/1"]
    assert {a for a, b in zip(after, EXPECTED, strict=True) if a != b} == {
        hashlib.sha256(b"other").hexdigest()
    }


@pytest.mark.parametrize("killed", [False, True])
def test_groups_that_another_process_is_at_are_left_to_it(
    tmp_path: Path, watched: Watched, killed: bool
) -> None:
    memory, found = HashCache(tmp_path / "memory"), list[str]()

    def hash_all() -> None:
        found.extend(memory.sha256_many(watched, PATHS, lambda _: None))

    (tmp_path / "memory").mkdir()
    lock = memory._file("b").with_suffix(".lock")
    with files.locked(lock):
        waiting = threading.Thread(target=hash_all)
        waiting.start()
        while len(watched.seen) < 6:
            time.sleep(0.01)
        time.sleep(0.1)
        assert {path[0] for path in watched.seen} == {"a", "c"}
        assert not found
        if not killed:
            group = hash_cache._Group(memory._file("b"))
            group.hash(FolderContents(watched.root), ["b/0", "b/1", "b/2"], lambda _: None)
    waiting.join()
    assert found == EXPECTED
    assert sorted(watched.seen) == sorted(path for path in PATHS if killed or path[0] != "b")
    assert not list((tmp_path / "memory").glob("*.lock"))


def test_processes_share_what_is_to_be_hashed(tmp_path: Path, watched: Watched) -> None:
    words = [sys.executable, "-c", SHARED, str(watched.root), str(tmp_path / "memory"), *PATHS]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [found for found, _ in answers] == [EXPECTED] * 3
    assert sorted(path for _, seen in answers for path in seen) == sorted(PATHS)


SHARED = """
import json, sys, time
from pathlib import Path
from pipeline.core import files
from pipeline.core.hash_cache import HashCache
from tests.core.test_digests import Watched

class Slow(Watched):
    def read(self, path):
        time.sleep(0.05)
        return super().read(path)

files.TICK = 0
contents = Slow(Path(sys.argv[1]))
found = HashCache(Path(sys.argv[2])).sha256_many(contents, sys.argv[3:], lambda _: None)
print(json.dumps([list(found), contents.seen]))
"""
