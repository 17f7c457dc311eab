"""Digests of files, which are remembered as long as a file stays as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.core.hash_cache import HashCache


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
