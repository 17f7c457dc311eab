"""Names of the ways that an image becomes a square; imports nothing."""

from __future__ import annotations

KINDS = ("shortest", "longest", "squash")
"""open_clip's `resize_mode`: the short side is resized and the centre cropped, the long side is
resized and the rest padded, or both sides are resized.
"""


def mode_parts(mode: str) -> tuple[str, int | None]:
    """Split a mode into its kind and the pixels of a side before the crop; None where it has none.

    `shortest:256` and `squash:346` are transformers' way: resize to so many pixels, then crop the
    centre.

    Raises:
        ValueError: For another mode.
    """
    kind, given, before = mode.partition(":")
    numbered = before.isascii() and before.isdecimal() and kind != "longest"
    if kind not in KINDS or bool(given) != numbered:
        raise ValueError(f"unknown mode {mode!r}: {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return kind, int(before) if given else None
