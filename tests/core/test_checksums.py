"""A checksum says by which function it was made, and any of these is compared; no other one is."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import files
from pipeline.core.checksums import PIECE, Content, Hashing, is_content, is_file
from pipeline.core.errors import AbsError
from tests.helpers.checksums import checksum_of

VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
}
"""BLAKE3's own test vectors: hashes of so many bytes 0, 1, ..., 250, 0, 1, ..."""


def functions(content: bytes) -> list[str]:
    """Checksums of bytes: as receipts state them now, and as those of 0.2.0 do."""
    return [checksum_of(content), hashlib.sha256(content).hexdigest()[:32]]


def written(*pieces: bytes) -> Content:
    """Size and checksum of what is written to a file in pieces, which must hold them."""
    with tempfile.TemporaryFile() as file:
        hashing = Hashing(file)
        for piece in pieces:
            assert hashing.write(piece) == len(piece)
        file.seek(0)
        assert file.read() == b"".join(pieces)
    return hashing.content


@pytest.mark.parametrize("size", VECTORS)
def test_a_checksum_is_half_of_blake3_and_says_so(size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    assert written(content) == (size, f"blake3:{VECTORS[size][:32]}")


@given(st.lists(st.binary()))
def test_what_is_written_in_pieces_has_the_checksum_of_the_whole(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert written(*pieces) == (len(whole), checksum_of(whole))


@pytest.mark.parametrize("can", [True, False], ids=["Linux", "elsewhere"])
def test_large_writes_are_whole_whether_or_not_the_disk_begins_early(
    can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can:
        monkeypatch.setattr(files, "_sync_file_range", None)
    whole = bytes(range(251)) * (3 * PIECE // 251)
    for sizes in ([len(whole)], [7, PIECE, len(whole) - PIECE - 7]):
        ends = list(itertools.accumulate(sizes))
        pieces = [whole[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        assert written(*pieces) == (len(whole), checksum_of(whole))


@given(st.binary(min_size=1), st.data())
def test_any_flipped_bit_is_seen_by_each_function(content: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    for stated in functions(content):
        assert is_content(content, stated, Path("file"))
        assert not is_content(bytes(changed), stated, Path("file"))


def test_a_flipped_bit_of_a_large_file_is_seen_by_each_function(tmp_path: Path) -> None:
    path, content = tmp_path / "file", bytearray(range(250)) * 4001
    path.write_bytes(content)
    stated = functions(bytes(content))
    assert all(is_file(path, each) for each in stated)
    content[-1] ^= 1
    path.write_bytes(content)
    assert not any(is_file(path, each) for each in stated)
    assert not any(is_file(path, each[:-1]) for each in functions(bytes(content)))


def test_a_checksum_by_an_unknown_function_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"any")
    stated = checksum_of(b"any").replace("blake3", "blake9")
    for compare in (lambda: is_file(path, stated), lambda: is_content(b"any", stated, path)):
        with pytest.raises(
            AbsError, match=rf"^{path}: .* blake9, which .* use the version [^\n]*$"
        ):
            compare()
