"""Matching crops with descriptions: soft matching (section 3.4) and cross-alignment (WCA)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = {"cpu": 1024}
"""The most crops, and the most texts, of a block of similarities on a kind of device."""
LARGE_SIDE = 4096
"""The same on any other kind: 64 MiB in float32. A processor's 4 MiB stay in its cache."""

Tile = tuple[slice | Tensor, slice]
"""Some classes, and which of their texts."""


@dataclass(frozen=True)
class Descriptions:
    """Description vectors by class, ragged numbers padded at their end.

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
        present = torch.arange(int(counts.max()), device=labels.device) < counts[:, None]
        padded = vectors.new_zeros(*present.shape, vectors.shape[1])
        padded[present] = vectors[order]
        return cls(padded, present)

    def first(self, count: int) -> Descriptions:
        """The first `count` of each class, in the order of their rows."""
        return Descriptions(self.vectors[:, :count].contiguous(), self.present[:, :count])

    def of(self, classes: Tensor) -> Descriptions:
        """Those of some classes: bool (classes,), or their indices."""
        return Descriptions(self.vectors[classes], self.present[classes])

    def to(self, device: torch.device | str) -> Descriptions:
        """The same on a device."""
        return Descriptions(self.vectors.to(device), self.present.to(device))

    def means(self) -> Tensor:
        """The renormalised mean vector of each class: (classes, dim)."""
        return F.normalize(self.vectors.sum(dim=1), dim=-1)


@torch.no_grad()
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
    without them. A class without descriptions scores 0. Similarities are held a block at a time,
    and an image's scores depend on the others no further than rows of a matrix product do. There
    are no gradients. ValueError for shapes that do not fit, or a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive")
    _check(features, descriptions)
    if weights is not None and weights.shape != features.shape[:2]:
        raise ValueError(f"weights of shape {tuple(weights.shape)}: expected (images, crops)")
    images, crops, _ = features.shape
    side = SIDES.get(features.device.type, LARGE_SIDE)
    tiles = _tiles(descriptions.present, side)
    scores = features.new_zeros(images, len(descriptions.present))
    if not tiles:
        return scores
    if weights is None:
        weights = features.new_ones(images, crops)
    buffers = features.new_empty(2, side * side)
    together = min(side, max(1, crops))
    for some in _spans(images, side // together):
        for part in _spans(crops, together):
            rows, counts = features[some, part] / temperature, weights[some, part] * temperature
            parts = _match(rows.flatten(0, 1), descriptions.vectors, tiles, buffers)
            for (classes, _), (sums, shares) in zip(tiles, parts, strict=True):
                each = sums.unflatten(0, counts.shape)
                scores[some, classes] += mean_view(each, shares.view_as(counts) * counts)
    return scores


def _match(
    rows: Tensor, vectors: Tensor, tiles: list[Tile], buffers: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tile's sums of weight times logit over a class's texts, and its share of all weight.

    rows: (rows, dim), so scaled that their products with `vectors`, (classes, most, dim), are the
    logits of Eq. 8. Texts are weighed within their tile; its share, which makes the weights those
    of Eq. 8, follows at the end from its highest logit and the weight of that one. buffers:
    (2, elements), room for a tile's logits and weights. Yields (rows, classes) and (rows,).
    """
    highest, top = rows.new_empty(2, len(rows), len(tiles))
    sums = []
    for i, tile in enumerate(tiles):
        table = vectors[tile]
        shape = len(rows), table.shape[0] * table.shape[1]
        logits, weights = (buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers)
        torch.mm(rows, table.flatten(0, 1).T, out=logits)
        torch.softmax(logits, dim=1, out=weights)
        torch.amax(logits, dim=1, out=highest[:, i])
        torch.amax(weights, dim=1, out=top[:, i])
        sums.append(weights.mul_(logits).unflatten(1, table.shape[:2]).sum(dim=-1))
    shares = (highest - highest.amax(dim=1, keepdim=True)).exp_() / top
    shares /= shares.sum(dim=1, keepdim=True)
    return zip(sums, shares.unbind(dim=1), strict=True)


def _tiles(present: Tensor, side: int) -> list[Tile]:
    """Tiles of at most `side` texts, which cover all of a padded table but its padding.

    The classes of a tile have equally many texts, so that nothing in it need be masked. They are
    a slice where they are neighbours, which copies nothing of a table without padding.
    """
    counts = present.sum(dim=1)
    tiles: list[Tile] = []
    for count in counts.unique().tolist():
        members = (counts == count).nonzero()[:, 0]
        for classes in members.split(max(1, side // max(1, count))):
            first, end = int(classes[0]), int(classes[-1]) + 1
            run = slice(first, end) if end - first == len(classes) else classes
            tiles += [(run, texts) for texts in _spans(count, side)]
    return tiles


def _spans(count: int, step: int) -> list[slice]:
    """Slices of at most `step` items, which cover `count`."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


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
