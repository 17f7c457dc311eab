"""Random draws that belong to an image: the same whatever the batch, worker or dataset order.

Each image has its own counter-based stream (Philox), keyed by the seed, the stream's name and the
sha256 of the image file: the little-endian number in blake2b, 16 bytes, of `seed:stream:sha256`.
Crop i takes row i of the stream, so the first 20 crops are a prefix of 60.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

COLUMNS = 8
"""Uniforms set aside for each crop; unused ones leave room without moving any stream."""


def generator(seed: int, stream: str, image: str) -> np.random.Generator:
    """The generator of one image's stream; `image` is the sha256 of its file."""
    key = hashlib.blake2b(f"{seed}:{stream}:{image}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def uniforms(seed: int, stream: str, image: str, first: int, last: int) -> Tensor:
    """Rows `first` to `last` of an image's stream: float64 (last - first, COLUMNS) in [0, 1)."""
    return torch.from_numpy(generator(seed, stream, image).random((last, COLUMNS))[first:])


def top_patches(attention: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The `k` patches of highest attention and their probabilities (Eq. 4 and 5).

    attention: (patches,), any float dtype, not renormalised. Returns int64 (k,), in descending
    order, ties to the lower index, and softmax(attention / temperature) over them, float64 (k,).
    Fewer patches than `k`: all of them. ValueError unless k and temperature are positive and all
    values are numbers.
    """
    if k < 1 or not temperature > 0:
        raise ValueError(f"k {k} and temperature {temperature} must be positive")
    if not attention.isfinite().all():
        raise ValueError("attention has values that are no numbers")
    values, order = attention.double().sort(descending=True, stable=True)
    weights = ((values[:k] - values[0]) / temperature).exp()
    return order[:k], weights / weights.sum()


def choose(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """An index per uniform, by the inverse of the cumulative distribution.

    probabilities: float64 (k,), adding up to 1. uniform: float64 (n,) in [0, 1). Returns int64
    (n,); an index without probability is never chosen.
    """
    steps = probabilities.cumsum(0)
    steps[int(probabilities.nonzero()[-1]) :] = 1.0
    return torch.searchsorted(steps, uniform.contiguous(), right=True)


def integers(low: int, high: int, uniform: Tensor) -> Tensor:
    """Integers uniform on low..high, both included: float64 (n,) in [0, 1) to int64 (n,)."""
    return low + (uniform * (high - low + 1)).floor().long()


def between(low: float, high: float, uniform: Tensor) -> Tensor:
    """Numbers uniform on [low, high): float64 (n,) in [0, 1) to float64 (n,)."""
    return low + uniform * (high - low)
