"""Matching crops with descriptions: soft matching (section 3.4) and cross-alignment (WCA)."""

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
        """From one row per description, (texts, dim), and its class, int64 (texts,).

        A class may have none; it scores 0. ValueError for a label that is no class.
        """
        if len(labels) != len(vectors) or not set(labels.tolist()) <= set(range(classes)):
            raise ValueError(f"expected one label a row, from 0 to {classes - 1}")
        counts = torch.bincount(labels, minlength=classes)
        order = torch.argsort(labels, stable=True)
        present = torch.arange(int(counts.max())) < counts[:, None]
        padded = vectors.new_zeros(*present.shape, vectors.shape[1])
        padded[present] = vectors[order]
        return cls(padded, present)

    def first(self, count: int) -> Descriptions:
        """The first `count` of each class, in the order of their rows."""
        return Descriptions(self.vectors[:, :count].contiguous(), self.present[:, :count])

    def of(self, classes: Tensor) -> Descriptions:
        """Those of some classes: bool (classes,), or their indices."""
        return Descriptions(self.vectors[classes], self.present[classes])

    def means(self) -> Tensor:
        """The renormalised mean vector of each class: (classes, dim)."""
        return F.normalize(self.vectors.sum(dim=1), dim=-1)


def soft_match(
    features: Tensor,
    descriptions: Descriptions,
    temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Scores of soft matching (Eq. 8 to 10): (images, classes), the sum over crops.

    features: (images, crops, dim), unit length; dtype as in `descriptions`. Each crop weighs all
    descriptions of all classes jointly by softmax(similarity / temperature). The classes' scores
    are sums of weight times similarity. weights: (images, crops), how often each crop counts; once
    without them. ValueError for shapes that do not fit, or a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive")
    _check(features, descriptions)
    if weights is not None and weights.shape != features.shape[:2]:
        raise ValueError(f"weights of shape {tuple(weights.shape)}: expected (images, crops)")
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
    each = torch.cat(scores).reshape(images, crops, classes)
    return each.sum(dim=1) if weights is None else (each * weights[..., None]).sum(dim=1)


def mean_view(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """The sum of an image's views: (images, views, dim), weighed by (images, views), to
    (images, dim)."""
    return features.sum(dim=1) if weights is None else (features * weights[..., None]).sum(dim=1)


def aligned_image(image: Tensor, crops: Tensor, scale: float) -> Tensor:
    """An image as the renormalised mean of its crops, those like the image first (WCA).

    image: (images, dim); crops: (images, crops, dim), all of unit length. Crops are weighed by
    softmax(scale * cosine with the image). Returns unit vectors (images, dim).
    """
    likeness = torch.einsum("id,icd->ic", image, crops)
    return F.normalize(mean_view(crops, (scale * likeness).softmax(dim=-1)), dim=-1)


def aligned_texts(labels: Tensor, descriptions: Descriptions, scale: float) -> Tensor:
    """A class as the renormalised mean of its descriptions, those like its name first (WCA).

    labels: (classes, dim), the vector of each class's plain label. Descriptions of a class are
    weighed by softmax(scale * cosine with the label) among themselves. Returns unit vectors
    (classes, dim).
    """
    likeness = torch.einsum("cd,cmd->cm", labels, descriptions.vectors)
    weight = (scale * likeness).masked_fill(~descriptions.present, -torch.inf).softmax(dim=-1)
    return F.normalize(mean_view(descriptions.vectors, weight), dim=-1)


def cross_align(
    image: Tensor,
    crops: Tensor,
    labels: Tensor,
    descriptions: Descriptions,
    image_scale: float,
    text_scale: float,
) -> Tensor:
    """Scores of weighted cross-alignment (WCA; Eq. 2 with its code's renormalisation).

    image: (images, dim); crops: (images, crops, dim); labels: (classes, dim). Returns cosines
    (images, classes). ValueError for shapes that do not fit.
    """
    _check(crops, descriptions)
    if image.shape != crops[:, 0].shape or labels.shape != descriptions.vectors[:, 0].shape:
        raise ValueError("expected one image for its crops, and one label for each class")
    texts = aligned_texts(labels, descriptions, text_scale)
    return aligned_image(image, crops, image_scale) @ texts.T


def _check(features: Tensor, descriptions: Descriptions) -> None:
    dim = descriptions.vectors.shape[-1]
    if features.ndim != 3 or features.shape[-1] != dim:
        raise ValueError(
            f"features of shape {tuple(features.shape)}: expected (images, crops, {dim})"
        )
