"""Random draws that belong to an image: the same whatever the batch, worker or dataset order.

Each image has its own counter-based stream (Philox), keyed by the seed, the stream's name and the
sha256 of the image file: the little-endian number in blake2b, 16 bytes, of `seed:stream:sha256`.
Crop i takes row i of the stream, so the first 20 crops are a prefix of 60.
"""

from __future__ import annotations

import hashlib

import numpy as np

COLUMNS = 8
"""Uniforms set aside for each crop; unused ones leave room without moving any stream."""


def uniforms(seed: int, stream: str, image: str, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of an image's stream: float64 (last - first, COLUMNS) in [0, 1)."""
    key = hashlib.blake2b(f"{seed}:{stream}:{image}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return np.asarray(generator.random((last, COLUMNS))[first:])


def top_patches(attention: np.ndarray, k: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The `k` patches of highest attention and their probabilities (Eq. 4 and 5).

    attention: (patches,), not renormalised. Returns indices (k,) in descending order, ties to the
    lower index, and softmax(attention / temperature) over them, float64. Fewer patches than `k`:
    all of them.
    """
    values = attention.astype(np.float64)
    order = np.argsort(-values, kind="stable")[:k]
    weights = np.exp((values[order] - values[order[0]]) / temperature)
    return order, weights / weights.sum()


def choose(items: np.ndarray, probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One item per uniform, by the inverse of the cumulative distribution."""
    steps = np.cumsum(probabilities)
    steps[-1] = 1.0
    return np.asarray(items[np.searchsorted(steps, uniform, side="right")])


def integers(low: np.ndarray | int, high: np.ndarray | int, uniform: np.ndarray) -> np.ndarray:
    """Integers uniform on low..high, both included, one per uniform."""
    span = np.asarray(high) - np.asarray(low) + 1
    return np.asarray(low + np.floor(uniform * span), dtype=np.int64)
