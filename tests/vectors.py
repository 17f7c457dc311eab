"""Random unit vectors, and descriptions by class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def unit_rows(rng: np.random.Generator, *shape: int) -> Tensor:
    """float64, the last axis of length 1."""
    rows = rng.standard_normal(shape)
    return torch.tensor(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def ragged(rng: np.random.Generator, counts: list[int], dim: int) -> tuple[Tensor, Tensor]:
    """Description vectors in shuffled order, and the class of each."""
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return unit_rows(rng, len(labels), dim), torch.tensor(labels)


def by_class(vectors: Tensor, labels: Tensor, classes: int) -> list[list[np.ndarray]]:
    """The vectors of each class, in the order of their rows."""
    return [list(vectors[labels == label].double().numpy()) for label in range(classes)]
