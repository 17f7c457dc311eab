"""Kind of a file that was taken for weights and is something else, told by its first bytes."""

from __future__ import annotations

import re

PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")
"""First bytes of compressed files: gzip, bzip2, xz, Zstandard, 7-Zip."""

TAR = slice(257, 262)
"""Offset of the mark `ustar` in a tar archive."""


def no_weights(start: bytes) -> str:
    """Say what a file is that begins with text, is packed or empty; nothing for any other."""
    if start.startswith(PACKED) or start[TAR] == b"ustar":
        return "it is packed (tar, gzip, ...); unpack it first"
    text = start.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").strip()
    if not text:
        return "" if start else "it is empty"
    if text.startswith("version https://git-lfs"):
        return "it is a Git LFS pointer, not weights; fetch the file itself with git lfs pull"
    if re.match(r"<(!doctype|!--|html|head|\?xml)", text, re.IGNORECASE):
        return "it is an HTML or XML page, not weights; download the file itself"
    if all(letter.isprintable() or letter.isspace() for letter in text):
        return f"it is text, not weights; it begins with {text[:40]!r}"
    return ""
