"""Matching crops with descriptions (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ELEMENTS = 1 << 24
"""Similarities held at once: 64 MiB in float32."""


@dataclass(frozen=True)
class Descriptions:
    """Description vectors by class, ragged numbers padded.

    vectors: (classes, most, dim), unit length, zero where padded.
    present: bool (classes, most).
    """

    vectors: Tensor
    present: Tensor

    @classmethod
    def from_rows(cls, vectors: Tensor, labels: Tensor, classes: int) -> Descriptions:
        """From one row per description, (texts, dim), and its class, (texts,)."""
        counts = torch.bincount(labels, minlength=classes)
        order = torch.argsort(labels, stable=True)
        present = torch.arange(int(counts.max())) < counts[:, None]
        padded = vectors.new_zeros(*present.shape, vectors.shape[1])
        padded[present] = vectors[order]
        return cls(padded, present)

    def means(self) -> Tensor:
        """The renormalised mean vector of each class: (classes, dim)."""
        return F.normalize(self.vectors.sum(dim=1), dim=-1)


def soft_match(features: Tensor, descriptions: Descriptions, temperature: float) -> Tensor:
    """Scores of soft matching (Eq. 8 to 10): (images, classes), the sum over crops.

    features: (images, crops, dim), unit length; dtype as in `descriptions`. Each crop weighs all
    descriptions of all classes jointly by softmax(similarity / temperature). The classes' scores
    are sums of weight times similarity.
    """
    images, crops, dim = features.shape
    classes, most = descriptions.present.shape
    table = descriptions.vectors.reshape(classes * most, dim).T
    absent = ~descriptions.present.reshape(-1)
    rows = features.reshape(images * crops, dim)
    step = max(1, ELEMENTS // (classes * most))
    scores = []
    for start in range(0, len(rows), step):
        similarity = rows[start : start + step] @ table
        weight = (similarity / temperature).masked_fill(absent, -torch.inf).softmax(dim=-1)
        scores.append((weight * similarity).reshape(-1, classes, most).sum(dim=-1))
    return torch.cat(scores).reshape(images, crops, classes).sum(dim=1)
