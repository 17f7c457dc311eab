"""Checksums of the present and of older receipts, computed the plain way."""

from __future__ import annotations

import hashlib
from pathlib import Path

from blake3 import blake3

from pipeline.core.checksums import Content


def checksum_of(content: bytes) -> str:
    """Checksum of bytes, as receipts state it now."""
    return f"blake3:{blake3(content).hexdigest()[:32]}"


def content_of(path: Path) -> Content:
    """Size and checksum of a file, as receipts state them now."""
    content = path.read_bytes()
    return Content(len(content), checksum_of(content))


def half(path: Path) -> str:
    """Half of the sha256 of a file, as receipts of 0.2.0 state it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
