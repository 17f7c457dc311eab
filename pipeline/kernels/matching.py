"""Compare embeddings of crops and descriptions: soft matching (section 3.4) and WCA."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = {"cpu": 1024}
"""Most crops, and most texts, of a block of similarities, by type of device.

On a CPU the block's 4 MiB in float32 stay in its cache.
"""
LARGE_SIDE = 4096
"""Most crops, and most texts, of a block of similarities on other devices: 64 MiB in float32."""

Tile = tuple[slice | Tensor, slice]
"""Some classes, and a range of their texts."""


@dataclass(frozen=True)
class Descriptions:
    """Embeddings of descriptions by class, padded to the largest number of descriptions."""

    vectors: Tensor
    """Unit vectors (classes, most, dim), zero where padded."""
    counts: tuple[int, ...]
    """Number of descriptions of each class."""

    @classmethod
    def from_rows(cls, vectors: Tensor, labels: Tensor, classes: int) -> Descriptions:
        """Group embeddings by class.

        Args:
            vectors: Unit vectors, one row per description, (texts, dim).
            labels: Class of each row, int64 (texts,).
            classes: Number of classes; a class may have no description, and then scores 0.

        Raises:
            ValueError: If labels and rows differ in number, or a label is not from 0 to classes -
                1.
        """
        if len(labels) != len(vectors) or not set(labels.tolist()) <= set(range(classes)):
            raise ValueError(f"expected one label per row, from 0 to {classes - 1}")
        counts = torch.bincount(labels, minlength=classes).tolist()
        grouped = vectors[torch.argsort(labels, stable=True)].split(counts)
        padded = vectors.new_zeros(classes, max(counts), vectors.shape[1])
        for row, rows in zip(padded, grouped, strict=True):
            row[: len(rows)] = rows
        return cls(padded, tuple(counts))

    @cached_property
    def present(self) -> Tensor:
        """False where padded: bool (classes, most), on the device of the vectors."""
        device = self.vectors.device
        places = torch.arange(self.vectors.shape[1], device=device)
        return places < torch.tensor(self.counts, device=device)[:, None]

    def first(self, count: int | None) -> Descriptions:
        """Keep the first `count` descriptions of each class in the order of rows; None for all."""
        if count is None:
            return self
        counts = tuple(min(count, each) for each in self.counts)
        return Descriptions(self.vectors[:, :count].contiguous(), counts)

    def of(self, classes: Tensor) -> Descriptions:
        """Keep some classes, given by a mask, bool (classes,), or by their indices."""
        counts = torch.tensor(self.counts)[classes.cpu()].tolist()
        return Descriptions(self.vectors[classes], tuple(counts))

    def to(self, place: torch.device | torch.dtype | str) -> Descriptions:
        """Copy to a device, or convert to a dtype."""
        return Descriptions(self.vectors.to(place), self.counts)

    def means(self) -> Tensor:
        """Compute the renormalised mean vector of each class: (classes, dim)."""
        return F.normalize(self.vectors.sum(dim=1), dim=-1)

    def averages(self) -> Tensor:
        """Compute the mean vector of each class, as long as it is: (classes, dim)."""
        return self.vectors.sum(dim=1) / self.present.sum(dim=1).clamp(min=1)[:, None]


def joined(texts: Sequence[Descriptions]) -> Descriptions:
    """Join the descriptions of each class in several text sets of the same classes."""
    rows = [text_set.vectors[text_set.present] for text_set in texts]
    classes = torch.arange(len(texts[0].counts), device=rows[0].device)
    labels = [
        classes.repeat_interleave(torch.tensor(text_set.counts, device=classes.device))
        for text_set in texts
    ]
    return Descriptions.from_rows(torch.cat(rows), torch.cat(labels), len(classes))


def first_equal(texts: Sequence[Descriptions]) -> Tensor:
    """Find, for each class, the first class with equal vectors in all of the text sets.

    Args:
        texts: Text sets of the same classes.

    Returns:
        int64 (classes,), on the CPU.
    """
    first: dict[tuple[bytes, ...], int] = {}
    tables = [text_set.vectors.cpu().numpy() for text_set in texts]
    rows = zip(*tables, strict=True)
    return torch.tensor(
        [first.setdefault(tuple(row.tobytes() for row in each), c) for c, each in enumerate(rows)]
    )


@torch.no_grad()
def soft_match(
    features: Tensor,
    descriptions: Descriptions,
    temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Score images by soft matching (Eq. 8 to 10), as a sum over crops.

    Each crop weighs all descriptions of all classes jointly by softmax(similarity / temperature); a
    class scores the sum of weight times similarity. Eq. 9 has no temperature, which is a
    temperature of 1; the released code divides by 0.03. Similarities are held one block at a time,
    and an image's scores depend on other images no more than rows of a matrix product do. There are
    no gradients.

    Args:
        features: Unit vectors of crops, (images, crops, dim), of the dtype of `descriptions`; or
            several of each, (images, crops, queries, dim), of which the most similar one counts
            for each description (`similarity`).
        descriptions: Embeddings of all classes' descriptions.
        temperature: Divisor of similarities before the softmax.
        weights: Number of times each crop counts, (images, crops); None for once.

    Returns:
        Scores (images, classes); 0 for a class without descriptions.

    Raises:
        ValueError: For shapes that do not match, or a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive")
    _check(features, descriptions)
    if weights is not None and weights.shape != features.shape[:2]:
        raise ValueError(f"weights of shape {tuple(weights.shape)}: expected (images, crops)")
    images, crops = features.shape[:2]
    side = SIDES.get(features.device.type, LARGE_SIDE)
    tiles = _tiles(descriptions.counts, side, features.device)
    scores = features.new_zeros(images, len(descriptions.counts))
    if not tiles:
        return scores
    if weights is None:
        weights = features.new_ones(images, crops)
    buffers = features.new_empty(2, side * side)
    rows_at_once = max(1, side // math.prod(features.shape[2:-1]))
    together = min(rows_at_once, max(1, crops))
    for some in _spans(images, rows_at_once // together):
        for part in _spans(crops, together):
            rows, counts = features[some, part] / temperature, weights[some, part] * temperature
            parts = _match(rows.flatten(0, 1), descriptions.vectors, tiles, buffers)
            for (classes, _), (sums, shares) in zip(tiles, parts, strict=True):
                by_crop = sums.unflatten(0, counts.shape)
                scores[some, classes] += mean_view(by_crop, shares.view_as(counts) * counts)
    return scores


def _match(
    rows: Tensor, vectors: Tensor, tiles: list[Tile], buffers: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute each tile's sums of weight times logit, and its share of all weight.

    Sums run over a class's texts in the tile, weighed within the tile. A tile's share, which makes
    the weights those of Eq. 9, follows at the end from its highest logit and the weight of that
    one.

    Args:
        rows: (rows, dim) or (rows, queries, dim), scaled so that products with `vectors` are the
            logits of Eq. 9.
        vectors: Descriptions, (classes, most, dim).
        tiles: Tiles that cover all descriptions.
        buffers: (2, elements), room for a tile's logits and weights.

    Yields:
        Sums (rows, classes) and shares (rows,) of each tile.
    """
    highest, top = rows.new_empty(2, len(rows), len(tiles))
    sums = []
    for i, tile in enumerate(tiles):
        table = vectors[tile]
        shape = len(rows), table.shape[0] * table.shape[1]
        logits, weights = (buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers)
        if rows.ndim == 2:
            torch.mm(rows, table.flatten(0, 1).T, out=logits)
        else:
            logits.copy_(similarity(rows, table.flatten(0, 1)))
        torch.softmax(logits, dim=1, out=weights)
        torch.amax(logits, dim=1, out=highest[:, i])
        torch.amax(weights, dim=1, out=top[:, i])
        sums.append(weights.mul_(logits).unflatten(1, table.shape[:2]).sum(dim=-1))
    shares = (highest - highest.amax(dim=1, keepdim=True)).exp_() / top
    shares /= shares.sum(dim=1, keepdim=True)
    return zip(sums, shares.unbind(dim=1), strict=True)


@lru_cache(maxsize=8)
def _tiles(counts: tuple[int, ...], side: int, device: torch.device) -> list[Tile]:
    """List tiles of at most `side` texts that cover all of a padded table but its padding.

    Classes of a tile have equally many texts, so that nothing in it needs a mask. They are a slice
    where they are neighbours, which copies nothing of a table without padding.
    """
    tiles: list[Tile] = []
    for count in sorted(set(counts)):
        members = torch.tensor([place for place, each in enumerate(counts) if each == count])
        for classes in members.split(max(1, side // max(1, count))):
            first, end = int(classes[0]), int(classes[-1]) + 1
            run = slice(first, end) if end - first == len(classes) else classes.to(device)
            tiles += [(run, texts) for texts in _spans(count, side)]
    return tiles


def _spans(count: int, step: int) -> list[slice]:
    """List slices of at most `step` items that cover `count` items."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def similarity(views: Tensor, texts: Tensor) -> Tensor:
    """Compute cosines of views and texts; of several vectors of a view the most similar counts.

    Args:
        views: Unit vectors, (n, dim) or (n, queries, dim).
        texts: Unit vectors, (texts, dim).

    Returns:
        (n, texts).
    """
    if views.ndim == 2:
        return views @ texts.T
    of_each: Tensor = (views.flatten(0, 1) @ texts.T).view(*views.shape[:2], len(texts))
    return of_each.amax(dim=1)


def mean_view(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum the views of each image.

    Args:
        features: (images, views, ...).
        weights: Number of times each view counts, (images, views); None for once.

    Returns:
        (images, ...).
    """
    if weights is None:
        return features.sum(dim=1)
    return (features * weights[(..., *[None] * (features.ndim - 2))]).sum(dim=1)


def alignment(whole: Tensor, parts: Tensor, scale: float, present: Tensor | None = None) -> Tensor:
    """Weigh parts by their similarity with a whole: softmax over its parts (WCA).

    Of several vectors each, the mean over their cosines counts.

    Args:
        whole: Unit vectors of images or labels, (groups, dim) or (groups, queries, dim).
        parts: Unit vectors of their crops or descriptions, (groups, parts, dim) or (groups, parts,
            queries, dim).
        scale: Factor of the cosine between part and whole before the softmax.
        present: Boolean (groups, parts), False where padded; None if nothing is.

    Returns:
        Weights (groups, parts) that sum to 1, zero where padded.
    """
    if whole.ndim == 2:
        likeness = scale * torch.einsum("gd,gpd->gp", whole, parts)
    else:
        likeness = scale * torch.einsum("gqd,gpqd->gp", whole, parts) / whole.shape[1]
    if present is not None:
        likeness = likeness.masked_fill(~present, -torch.inf)
    return likeness.softmax(dim=-1)


def aligned_image(image: Tensor, crops: Tensor, scale: float) -> Tensor:
    """Average an image's crops by their similarity with the image (WCA).

    Of several vectors of a view, each is averaged by itself.

    Args:
        image: Unit vectors of whole images, (images, dim) or (images, queries, dim).
        crops: Unit vectors of crops, (images, crops, dim) or (images, crops, queries, dim).
        scale: Factor of the cosine between crop and image before the softmax over crops.

    Returns:
        Renormalised means, unit vectors of the shape of `image`.
    """
    return F.normalize(mean_view(crops, alignment(image, crops, scale)), dim=-1)


def aligned_texts(labels: Tensor, descriptions: Descriptions, scale: float) -> Tensor:
    """Average a class's descriptions by their similarity with the class's label (WCA).

    Args:
        labels: Unit vectors of each class's plain label, (classes, dim).
        descriptions: Embeddings of all classes' descriptions.
        scale: Factor of the cosine between description and label before the softmax over the
            class's descriptions.

    Returns:
        Renormalised means, unit vectors (classes, dim).
    """
    weights = alignment(labels, descriptions.vectors, scale, descriptions.present)
    return F.normalize(mean_view(descriptions.vectors, weights), dim=-1)


def cross_align(
    image: Tensor,
    crops: Tensor,
    labels: Tensor,
    descriptions: Descriptions,
    image_scale: float,
    text_scale: float,
) -> Tensor:
    """Score images by weighted cross-alignment (WCA; Eq. 2).

    As in WCA's released code, both weighted means are renormalised.

    Args:
        image: Unit vectors of whole images, (images, dim).
        crops: Unit vectors of crops, (images, crops, dim).
        labels: Unit vectors of each class's plain label, (classes, dim).
        descriptions: Embeddings of all classes' descriptions.
        image_scale: `scale` of `aligned_image`.
        text_scale: `scale` of `aligned_texts`.

    Returns:
        Cosines (images, classes).

    Raises:
        ValueError: For shapes that do not match.
    """
    _check(crops, descriptions)
    if image.shape != crops[:, 0].shape or labels.shape != descriptions.vectors[:, 0].shape:
        raise ValueError("expected one image vector for its crops, and one label vector per class")
    texts = aligned_texts(labels, descriptions, text_scale)
    return similarity(aligned_image(image, crops, image_scale), texts)


def _check(features: Tensor, descriptions: Descriptions) -> None:
    """Raise ValueError unless features are (images, crops, dim), or (images, crops, queries, dim),
    with the dim of `descriptions`.
    """
    dim = descriptions.vectors.shape[-1]
    if features.ndim not in (3, 4) or features.shape[-1] != dim:
        raise ValueError(
            f"features of shape {tuple(features.shape)}: expected (images, crops, {dim})"
        )
