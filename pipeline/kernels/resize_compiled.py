"""Passes of `resize` on the CPU: Pillow's integer sums, compiled by numba at the first call.

A pass adds whole rows of pixels, each times one weight, so that inner loops run along contiguous
bytes and become vector instructions. The pass along the other axis works on transposed pixels.
numba keeps the machine code in the cache of this folder, or else in the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from pipeline.kernels.resize_taps import BITS, Crops, Taps

F = TypeVar("F", bound=Callable[..., Any])

HALF = 1 << (BITS - 1)
"""One half in fixed point, added before the shift that rounds."""
ROWS = 16
"""Rows transposed at once; their bytes in one column are two words of 8 bytes."""


def by_sums(image: np.ndarray, crops: Crops) -> np.ndarray:
    """Crop and resize boxes of an image: uint8 (3, height, width) to uint8 (n, 3, side, side)."""
    count, side = crops.x.first.shape
    resized = np.empty((count, 3, side, side), np.uint8)
    image = np.ascontiguousarray(image)
    sideways = np.stack([_turned(plane) for plane in image])
    _resize(
        sideways, np.flatnonzero(~crops.columns_first), crops.corners, crops.x, crops.y, resized
    )
    chosen = np.flatnonzero(crops.columns_first)
    if len(chosen):
        corners = np.ascontiguousarray(crops.corners[:, ::-1])
        _resize(image, chosen, corners, crops.y, crops.x, resized)
        resized[chosen] = resized[chosen].swapaxes(2, 3)
    return resized


def _compiled(function: F) -> F:
    """Compile a function with numba; without a cache if no folder for it can be written."""
    try:
        compiled: F = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no writable folder for the machine code
        compiled = numba.njit(nogil=True)(function)
    return compiled


@_compiled
def _weave(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, out: np.ndarray) -> None:
    """Interleave four rows of bytes into one."""
    for j in range(len(a)):
        out[4 * j] = a[j]
        out[4 * j + 1] = b[j]
        out[4 * j + 2] = c[j]
        out[4 * j + 3] = d[j]


@_compiled
def _turned(pixels: np.ndarray) -> np.ndarray:
    """Transpose (rows, columns); pad the new rows to a multiple of `ROWS` with arbitrary bytes."""
    rows, columns = pixels.shape
    out = np.empty((columns, -(-rows // ROWS) * ROWS), np.uint8)
    once = np.empty((4, 4 * columns), np.uint8)
    twice = np.empty(ROWS * columns, np.uint8)
    words, target = twice.view(np.uint64), out.view(np.uint64)
    for start in range(0, rows, ROWS):
        for k in range(4):
            a, b = min(start + k, rows - 1), min(start + k + 4, rows - 1)
            c, d = min(start + k + 8, rows - 1), min(start + k + 12, rows - 1)
            _weave(pixels[a], pixels[b], pixels[c], pixels[d], once[k])
        _weave(once[0], once[1], once[2], once[3], twice)
        for j in range(columns):
            target[j, start // 8] = words[2 * j]
            target[j, start // 8 + 1] = words[2 * j + 1]
    return out


@_compiled
def _pass(
    pixels: np.ndarray,
    corner: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    weights: np.ndarray,
    out: np.ndarray,
) -> None:
    """Resize rows of pixels, from a corner (row, column) on and as wide as `out`, into the rows of
    `out`.
    """
    outputs, width = out.shape
    left, right = corner[1], corner[1] + width
    sums = np.empty(width, np.int32)
    for o in range(outputs):
        row, count = corner[0] + first[o], last[o] - first[o]
        for j in range(width):
            sums[j] = HALF
        for k in range(0, count - 1, 2):
            a, b = pixels[row + k, left:right], pixels[row + k + 1, left:right]
            v, w = weights[o, k], weights[o, k + 1]
            for j in range(width):
                sums[j] += v * a[j] + w * b[j]
        if count % 2:
            a, v = pixels[row + count - 1, left:right], weights[o, count - 1]
            for j in range(width):
                sums[j] += v * a[j]
        for j in range(width):
            out[o, j] = min(max(sums[j] >> BITS, 0), 255)


@_compiled
def _resize(
    pixels: np.ndarray,
    chosen: np.ndarray,
    corners: np.ndarray,
    down: Taps,
    across: Taps,
    resized: np.ndarray,
) -> None:
    """Resize the chosen boxes into `resized`.

    The first pass goes down the rows of each plane, the second across, on transposed pixels.
    """
    origin = np.zeros(2, np.int64)
    for plane in range(3):
        for i in chosen:
            first, last, weights = down.first[i], down.last[i], down.weights[i]
            between = np.empty((len(first), across.last[i, -1]), np.uint8)
            _pass(pixels[plane], corners[i], first, last, weights, between)
            first, last, weights = across.first[i], across.last[i], across.weights[i]
            _pass(_turned(between), origin, first, last, weights, resized[i, plane])
