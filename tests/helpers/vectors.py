"""Random unit vectors, and texts by class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def unit_rows(rng: np.random.Generator, *shape: int) -> Tensor:
    """Draw float64 vectors with unit length along the last axis."""
    rows = rng.standard_normal(shape)
    return torch.tensor(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def ragged(rng: np.random.Generator, counts: list[int], dim: int) -> tuple[Tensor, Tensor]:
    """Draw text vectors in shuffled order, `counts[c]` of class c; return them with labels."""
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return unit_rows(rng, len(labels), dim), torch.tensor(labels)


def by_class(vectors: Tensor, labels: Tensor, classes: int) -> list[list[np.ndarray]]:
    """Group vectors by class, in the order of their rows."""
    return [list(vectors[labels == label].double().numpy()) for label in range(classes)]
