"""Sums whose order is fixed on every device.

On CUDA, torch's `scatter_add` adds in the order in which threads arrive, and `cumsum` of floats may
too, so that a run made again could differ in the last bits. Products of matrices do not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sums_at(places: Tensor, values: Tensor, size: int) -> Tensor:
    """Sum the values at each place.

    Args:
        places: Place of each value, from 0 to size - 1, int64 (rows, n).
        values: Values, (rows, n).
        size: Number of places.

    Returns:
        (rows, size), of the dtype of the values; 0 at places without a value.
    """
    chosen = F.one_hot(places, size).to(values.dtype)
    return (values[:, None] @ chosen)[:, 0]


def sums_of_others(values: Tensor) -> Tensor:
    """Sum, for each value of a row, all others, without subtraction.

    Values lie in a square, and a sum is that of the other values of its line, plus the sums of the
    other lines.

    Args:
        values: (rows, n).

    Returns:
        (rows, n).
    """
    rows, n = values.shape
    side = math.isqrt(n - 1) + 1 if n else 0
    square = F.pad(values, (0, side * side - n)).view(rows, side, side)
    others = 1 - torch.eye(side, dtype=values.dtype, device=values.device)
    lines = square.sum(dim=2) @ others
    return (square @ others + lines[..., None]).view(rows, -1)[:, :n]
