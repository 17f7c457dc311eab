"""Random draws that belong to an image: the same whatever the batch, worker or dataset order.

Each image has its own counter-based stream (Philox), keyed by the seed, the stream's name and the
sha256 of the image file: the little-endian number in blake2b, 16 bytes, of `seed:stream:sha256`.
Crop i takes row i of the stream, so the first 20 crops are a prefix of 60.

Crops that follow attention have layers of uniforms, so that settings which ask for other ranges of
the same thing draw the same value as often as they can (`within`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COLUMNS = 8
"""Uniforms set aside for each crop; unused ones leave room without moving any stream."""
LAYERS = 16
"""How many values of one thing a crop draws at most."""


def generator(seed: int, stream: str, image: str) -> np.random.Generator:
    """The generator of one image's stream; `image` is the sha256 of its file."""
    key = hashlib.blake2b(f"{seed}:{stream}:{image}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def uniforms(seed: int, stream: str, image: str, first: int, last: int) -> Tensor:
    """Rows `first` to `last` of an image's stream: float64 (last - first, COLUMNS) in [0, 1)."""
    return torch.from_numpy(generator(seed, stream, image).random((last, COLUMNS))[first:])


def layers(seed: int, stream: str, image: str, first: int, last: int) -> Tensor:
    """The same in layers: float64 (last - first, LAYERS, COLUMNS) in [0, 1)."""
    drawn = generator(seed, stream, image).random((last, LAYERS, COLUMNS))
    return torch.from_numpy(drawn[first:])


def within(uniforms: Tensor, low: Sequence[float], high: Sequence[float]) -> Tensor:
    """Numbers uniform on [low, high) of each column, by narrowing [0, 1).

    uniforms: float64 (n, layers, columns) in [0, 1); low, high: a number of [0, 1] per column.
    Returns float64 (n, columns).

    A number is drawn from [0, 1). If it lies outside its range, the next layer draws from what is
    left on the side where the range is, and so on; the last layer draws from the range itself.
    Where it first lies inside it is uniform there, so that the distribution is exact. Of two ranges
    one of which holds the other, both have the same number with the ratio of their lengths, which
    no other way to draw can exceed. ValueError unless 0 <= low <= high <= 1.
    """
    least, most = np.asarray(low), np.asarray(high)
    if not (np.all(least >= 0) and np.all(least <= most) and np.all(most <= 1)):
        raise ValueError(f"ranges from {low} to {high}: expected parts of [0, 1]")
    *narrowing, last = uniforms.numpy().swapaxes(0, 1)
    bottom, top = np.zeros_like(last), np.ones_like(last)
    for layer in narrowing:
        drawn = bottom + layer * (top - bottom)
        below, above = drawn < least, drawn >= most
        # One that lies inside becomes both ends, so that it is drawn again in all further layers.
        bottom, top = np.where(above, bottom, drawn), np.where(below, top, drawn)
        if not (below | above).any():
            break
    inside = (bottom == top) & (bottom >= least) & (bottom < most)
    return torch.from_numpy(np.where(inside, bottom, least + last * (most - least)))


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


def top_share(attention: Tensor, k: int, temperature: float) -> float:
    """What softmax over all patches gives to the `k` of highest attention, in (0, 1]."""
    weights = (attention.double().sort(descending=True).values / temperature).softmax(dim=0)
    return 1.0 if k >= len(weights) else min(1.0, float(weights[:k].sum()))


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


def whole_range(low: int, high: int, count: int) -> tuple[float, float]:
    """The part of [0, 1) that stands for low..high of the numbers 0..count - 1."""
    return low / count, (high + 1) / count


def whole(low: int, high: int, count: int, number: Tensor) -> Tensor:
    """The other way: numbers of that part, float64 (n,), to int64 (n,) of low..high."""
    return (number * count).floor().long().clamp(low, high)


def between(low: float, high: float, uniform: Tensor) -> Tensor:
    """Numbers uniform on [low, high): float64 (n,) in [0, 1) to float64 (n,)."""
    return low + uniform * (high - low)
