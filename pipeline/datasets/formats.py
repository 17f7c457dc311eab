"""Formats of image files: those that this Pillow decodes by itself, and others."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from PIL import Image

NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognises but does not decode by itself. They hold video, weather fields and
drawings; a handler of the caller's would decode them, and for EPS Pillow starts Ghostscript."""

USUAL = frozenset({"BMP", "GIF", "JPEG", "PNG", "PPM"})
"""Formats that Pillow tries before it loads its other decoders."""

FOREIGN = frozenset({
    ".3fr", ".arw", ".avif", ".avifs", ".bpg", ".cr2", ".cr3", ".crw", ".dcm", ".dcr", ".djvu",
    ".dng", ".erf", ".exr", ".fff", ".flif", ".hdr", ".heic", ".heics", ".heif", ".heifs", ".hif",
    ".iiq", ".jng", ".jp3d", ".jxl", ".jxr", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
    ".orf", ".pct", ".pef", ".pic", ".pict", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf",
    ".srw", ".svg", ".svgz", ".wdp", ".x3f", ".xcf", ".xwd",
})  # fmt: skip
"""Suffixes of images, cameras' raw files among them, that Pillow has no decoder for, or not always.
The table of the module mimetypes is not used: it differs between versions of Python and machines,
and reasons are part of keys."""


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that this Pillow decodes by itself, in the order in which they are tried.

    The usual ones come first, as in Pillow; the order is the same in every process. Every use of
    `Image.open` is restricted to them.
    """
    Image.init()
    return tuple(sorted(set(Image.ID) - NOT_DECODED, key=lambda name: (name not in USUAL, name)))


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of `formats`, in lower case and with the dot."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in formats())


def is_decoded(name: str) -> bool:
    """Return whether a file's name has a suffix of a format that this Pillow decodes."""
    return _suffix(name) in suffixes()


def is_foreign(name: str) -> bool:
    """Return whether a file's name has a suffix of an image that this Pillow cannot open."""
    return _suffix(name) in FOREIGN - suffixes()


def holds_image(source: Path | io.BytesIO, name: str) -> bool:
    """Return whether Pillow opens a file by its content, whatever its suffix.

    Cameras' raw files are often TIFF files, of which Pillow would read the thumbnail: not taken.
    """
    allowed = [one for one in formats() if one != "TIFF" or not is_foreign(name)]
    try:
        with Image.open(source, formats=allowed):
            return True
    except (Image.DecompressionBombError, PermissionError):
        return True  # decoding it says what is wrong
    except Exception:  # whatever a file of another kind makes Pillow raise
        return False


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""
