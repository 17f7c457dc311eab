"""Crop geometry: boxes in pixels, windows in tokens, and patches from one grid to another.

Patches are flat indices of a square grid, row by row. Boxes and windows are half-open.
"""

from __future__ import annotations

import numpy as np

ENDS = ("left", "top", "right", "bottom")
BOX = [f"box_{end}" for end in ENDS]
"""Columns of a raw crop's box."""
WINDOW = [f"window_{end}" for end in ENDS]
"""Columns of a feature crop's window."""


def patch_centers(patch: np.ndarray, grid: int, width: int, height: int) -> np.ndarray:
    """Centre pixel of each patch of a grid laid over the whole image: int64 (n, 2) as x, y.

    The patch starts at floor(column * width / grid) and is floor(width / grid) wide; its centre
    is the floored mean of its ends. The product is taken in floating point and in the order of the
    released code, which for some widths ends one pixel before the exact one.
    """
    centers = []
    for index, size in ((patch % grid, width), (patch // grid, height)):
        start = np.floor(index * 16 * (size / (grid * 16))).astype(np.int64)
        end = np.minimum(start + int(16 * (size / (grid * 16))), size)
        centers.append((start + end) // 2)
    return np.stack(centers, axis=-1).astype(np.int64)


def size_bounds(size: int, alpha: float, beta: float) -> tuple[int, int]:
    """The integer range that a crop's side is drawn from (Eq. 6): int(alpha s), int(beta s)."""
    return int(size * alpha), int(size * beta)


def raw_boxes(centers: np.ndarray, sizes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes of `sizes` (n, 2: width, height) around `centers`, clipped (not moved) at the border.

    Half a side is floor(side / 2), as in the released code. A box is never empty: at least one
    pixel is kept. Returns int64 (n, 4): left, top, right, bottom.
    """
    limits = np.array([width, height])
    first = np.maximum(centers - sizes // 2, 0)
    first = np.minimum(first, limits - 1)
    last = np.maximum(np.minimum(centers + sizes // 2, limits), first + 1)
    return np.concatenate([first, last], axis=-1).astype(np.int64)


def to_grid(patch: np.ndarray, source: int, target: int) -> np.ndarray:
    """The official index map: row * target // source, and the same for the column.

    14 to 7 is halving; 14 to 16 never yields row or column 7 or 15.
    """
    row, column = patch // source * target // source, patch % source * target // source
    return np.asarray(row * target + column)


def feature_windows(token: np.ndarray, size: np.ndarray, grid: int) -> np.ndarray:
    """Square windows of 2 * floor(size / 2) + 1 tokens around `token`, clipped at the border.

    Returns int64 (n, 4): left, top, right, bottom, in tokens of a `grid` x `grid` grid (Eq. 7).
    """
    centers = np.stack([token % grid, token // grid], axis=-1)
    half = (size // 2)[:, None]
    first = np.maximum(centers - half, 0)
    last = np.minimum(centers + half + 1, grid)
    return np.concatenate([first, last], axis=-1).astype(np.int64)


def window_bounds(grid: int, alpha: float, beta: float) -> tuple[int, int]:
    """The integer range of a window's size; one value is widened by one, as released."""
    low, high = size_bounds(grid, alpha, beta)
    return low, max(high, low + 1)
