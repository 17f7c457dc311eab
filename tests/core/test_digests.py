"""Digests of files, which are remembered as long as a file stays as it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

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
    content = memory.read_text()
    for damaged in (content.replace("read again", "remembered"), "{ damaged", "", "\n[]"):
        memory.write_text(damaged)
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
    for new in (count, 0):
        hashed.clear()
        cache = HashCache(tmp_path / "memory")
        assert cache.sha256_many(contents, names, hashed.append) == expected
        assert sum(hashed[1:]) == new
    seal, _, rest = (tmp_path / "memory").read_bytes().partition(b"\n")
    assert seal.decode() == hashlib.sha256(rest).hexdigest()
    assert list(json.loads(rest)) == [str(tmp_path / name) for name in names]
