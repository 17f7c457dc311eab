"""Images by their number, their path or the end of their path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.core.errors import ConfigError, did_you_mean


def find_image(image_ids: Sequence[str], image: Any) -> int:
    """Return the number of an image.

    Args:
        image_ids: The column `image_id` of the index.
        image: Number of the image, its path, the end of its path, or a row of a table with a
            column `image_id`.

    Raises:
        ConfigError: If no image, or more than one, is meant.
    """
    image = getattr(image, "image_id", image)
    if isinstance(image, str):
        found = _with_path(image_ids, image)
        if found is not None:
            return found
        if not image.isdecimal():
            raise ConfigError(f"no image {image!r}; {_nearest(image, image_ids)}")
        image = int(image)
    if isinstance(image, bool) or not hasattr(image, "__index__"):
        raise ConfigError(f"image {image!r}: give a number, a path of the index, or its end")
    number = int(image)
    if not 0 <= number < len(image_ids):
        raise ConfigError(f"no image {number}; images are numbered from 0 to {len(image_ids) - 1}")
    return number


def _with_path(image_ids: Sequence[str], path: str) -> int | None:
    """Return the number of the one image whose path is `path` or ends with it; None without one."""
    exact = [i for i, each in enumerate(image_ids) if each == path]
    end = "/" + path.removeprefix("/")
    ends = exact or [i for i, each in enumerate(image_ids) if path and each.endswith(end)]
    if len(ends) > 1:
        raise ConfigError(
            f"image {path!r} is the end of {len(ends)} paths, such as {image_ids[ends[0]]} and "
            f"{image_ids[ends[1]]}; give more of the path"
        )
    return ends[0] if ends else None


def _nearest(path: str, image_ids: Sequence[str]) -> str:
    """Return a hint: the nearest path, by the whole path or its last part."""
    hint = did_you_mean(path, list(image_ids[:100_000]))
    return hint if hint.startswith("did") else "give a number, a path of the index, or its end"
