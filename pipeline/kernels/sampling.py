"""Random draws that belong to an image, whatever the batch, worker or order of the dataset.

Each image has its own counter-based stream (numpy's Philox). Its key is the little-endian integer
of the 16-byte BLAKE2b digest of `seed:stream:sha256`, with the sha256 of the image file. Crop i
takes row i of the stream, so the first 20 crops are a prefix of 60.

Attention-guided crops have several layers of uniforms per row. With these, settings that allow
different ranges of a number draw the same value as often as possible (`within`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COLUMNS = 8
"""Uniforms per crop; unused columns leave room for further draws without changing any stream."""
LAYERS = 16
"""Layers of uniforms per crop: the most values that `within` draws for one number."""


def generator(seed: int, stream: str, image: str) -> np.random.Generator:
    """Return the random generator of one image's stream.

    Args:
        seed: Seed of the draws, such as the setting `crops.seed`.
        stream: Name of the stream, such as `crops` or `squares`.
        image: sha256 of the image file, in hexadecimal.
    """
    key = hashlib.blake2b(f"{seed}:{stream}:{image}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def uniforms(seed: int, stream: str, image: str, first: int, last: int) -> Tensor:
    """Draw rows `first` to `last` (excluded) of an image's stream.

    Args:
        seed: Seed of the draws.
        stream: Name of the stream.
        image: sha256 of the image file, in hexadecimal.
        first: First row, counted from 0.
        last: End of the rows, excluded.

    Returns:
        float64 (last - first, COLUMNS) in [0, 1).
    """
    return torch.from_numpy(generator(seed, stream, image).random((last, COLUMNS))[first:])


def layers(seed: int, stream: str, image: str, first: int, last: int) -> Tensor:
    """Draw rows `first` to `last` (excluded) of an image's stream, in layers for `within`.

    Args:
        seed: Seed of the draws.
        stream: Name of the stream.
        image: sha256 of the image file, in hexadecimal.
        first: First row, counted from 0.
        last: End of the rows, excluded.

    Returns:
        float64 (last - first, LAYERS, COLUMNS) in [0, 1).
    """
    drawn = generator(seed, stream, image).random((last, LAYERS, COLUMNS))
    return torch.from_numpy(drawn[first:])


def within(uniforms: Tensor, low: Sequence[float], high: Sequence[float]) -> Tensor:
    """Draw numbers uniform on [low, high) of each column, by narrowing [0, 1).

    The first layer draws from [0, 1). While the number lies outside its range, the next layer draws
    from the remaining interval on the side of the range; the last layer draws from the range
    itself. Where a number first falls inside the range it is uniform there, so the distribution is
    exact. If one range contains another, both yield the same number with a probability equal to the
    ratio of their lengths, and no other way to draw can exceed that.

    Args:
        uniforms: float64 (n, layers, columns) in [0, 1).
        low: Lower bound of each column, in [0, 1].
        high: Upper bound of each column, in [0, 1].

    Returns:
        float64 (n, columns).

    Raises:
        ValueError: Unless 0 <= low <= high <= 1.
    """
    least, most = np.asarray(low), np.asarray(high)
    if not (np.all(least >= 0) and np.all(least <= most) and np.all(most <= 1)):
        raise ValueError(f"ranges from {low} to {high}: expected 0 <= low <= high <= 1")
    *narrowing, last = uniforms.numpy().swapaxes(0, 1)
    bottom, top = np.zeros_like(last), np.ones_like(last)
    for layer in narrowing:
        drawn = bottom + layer * (top - bottom)
        below, above = drawn < least, drawn >= most
        # A number inside its range becomes both ends, so that further layers repeat it.
        bottom, top = np.where(above, bottom, drawn), np.where(below, top, drawn)
        if not (below | above).any():
            break
    inside = (bottom == top) & (bottom >= least) & (bottom < most)
    return torch.from_numpy(np.where(inside, bottom, least + last * (most - least)))


def top_patches(attention: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Select the `k` patches of highest attention and their probabilities (Eq. 4 and 5).

    Eq. 5 has no temperature, which is a temperature of 1; the released code divides by 0.03.

    Args:
        attention: Attention to each patch, (patches,), any float dtype, not renormalised.
        k: Number of patches; all of them if there are fewer.
        temperature: Divisor of the attention before the softmax.

    Returns:
        Patch indices, int64 (k,), by descending attention, ties to the lower index.
        Probabilities, float64 (k,), softmax(attention / temperature) over these patches.

    Raises:
        ValueError: If `k` or `temperature` is not positive, or `attention` has NaN or infinite
            values.
    """
    if k < 1 or not temperature > 0:
        raise ValueError(f"k {k} and temperature {temperature} must be positive")
    if not attention.isfinite().all():
        raise ValueError("attention has NaN or infinite values")
    values, order = attention.double().sort(descending=True, stable=True)
    weights = ((values[:k] - values[0]) / temperature).exp()
    return order[:k], weights / weights.sum()


def top_share(attention: Tensor, k: int, temperature: float) -> float:
    """Compute the probability of the `k` patches of highest attention under a softmax over all.

    Args:
        attention: Attention to each patch, (patches,), any float dtype.
        k: Number of patches.
        temperature: Divisor of the attention before the softmax.

    Returns:
        Probability in (0, 1]; 1.0 if there are at most `k` patches.
    """
    weights = (attention.double().sort(descending=True).values / temperature).softmax(dim=0)
    return 1.0 if k >= len(weights) else min(1.0, float(weights[:k].sum()))


def choose(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw one index per uniform, by inverting the cumulative distribution.

    Args:
        probabilities: float64 (k,), summing to 1.
        uniform: float64 (n,) in [0, 1).

    Returns:
        int64 (n,), in 0 to k - 1; an index of probability 0 is never drawn.
    """
    steps = probabilities.cumsum(0)
    steps[int(probabilities.nonzero()[-1]) :] = 1.0
    return torch.searchsorted(steps, uniform.contiguous(), right=True)


def integers(low: int, high: int, uniform: Tensor) -> Tensor:
    """Draw integers uniform on low..high, both included: float64 (n,) in [0, 1) to int64 (n,)."""
    return low + (uniform * (high - low + 1)).floor().long()


def whole_range(low: int, high: int, count: int) -> tuple[float, float]:
    """Return the part of [0, 1) that stands for the integers low..high among 0..count - 1."""
    return low / count, (high + 1) / count


def whole(low: int, high: int, count: int, number: Tensor) -> Tensor:
    """Convert numbers of `whole_range` to integers low..high: float64 (n,) to int64 (n,)."""
    return (number * count).floor().long().clamp(low, high)


def between(low: float, high: float, uniform: Tensor) -> Tensor:
    """Draw numbers uniform on [low, high): float64 (n,) in [0, 1) to float64 (n,)."""
    return low + uniform * (high - low)
