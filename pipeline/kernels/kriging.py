"""Prediction of the mean score of all N draws of an image from the first n, by their places.

Crops that lie close together score alike, and the places of all N are known before any is encoded.
Ordinary kriging (best linear unbiased prediction with an unknown mean) uses that: a draw among many
that are there already tells little, one that stands for many to come counts more. Predictions
assume one law of how correlation falls off with distance; their error is the largest under that law
and others, among them that draws have nothing to do with their places. `docs/settling.md` derives
the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.kernels.rounds import NUGGET, REACH

NUMBERS = 2**20
"""Correlations under a law that are held at once."""


class Prediction(NamedTuple):
    """Best linear prediction of the mean of all draws of each image, from n of them."""

    weights: Tensor
    """Weight of each draw in the predicted mean, (images, n); rows sum to 1."""
    residual: Tensor
    """Matrix R of which x'Rx / (n - 1) estimates the variance of draws x, (images, n, n); constants
    have none.
    """
    error: Tensor
    """Variance of the error of the predicted mean, in variances of a draw, (images,)."""


def by_mean(images: int, n: int, rest: float) -> Prediction:
    """Predict by the mean of the draws that are there, whatever their places.

    Args:
        images: Number of images.
        n: Number of draws.
        rest: 1 / N for the mean of N draws; 0 for that of infinitely many.
    """
    weights = torch.full((images, n), 1 / n, dtype=torch.float64)
    residual = torch.eye(n, dtype=torch.float64) - 1 / n
    error = torch.full((images,), 1 / n - rest, dtype=torch.float64)
    return Prediction(weights, residual.expand(images, n, n), error)


def by_place(places: Tensor, n: int, reach: float = REACH, nugget: float = NUGGET) -> Prediction:
    """Predict by ordinary kriging over the places of the draws.

    The error is the largest under the laws of `correlations`, each in what the estimate of the
    variance is on average under it.

    Args:
        places: Left, top, right and bottom end of each of the N draws, in the order in which they
            are taken, in pixels or tokens: (images, N, 4).
        n: Number of draws that are there, the first n.
        reach: Distance over which correlation falls off.
        nugget: Share of the variance that does not correlate.
    """
    found = [_of_part(part, n, reach, nugget) for part in in_parts(places)]
    return Prediction(*map(torch.cat, zip(*found, strict=True)))


def in_parts(places: Tensor) -> Sequence[Tensor]:
    """Split images by what their correlations hold: NUMBERS a part, or one image."""
    parts: Sequence[Tensor] = places.split(max(1, NUMBERS // max(1, places.shape[1]) ** 2))
    return parts


def _of_part(places: Tensor, n: int, reach: float, nugget: float) -> Prediction:
    """Predict the draws of some images, as `by_place` does."""
    count = places.shape[1]
    laws = correlations(places, reach, nugget)
    assumed = laws[0]
    known, between = assumed[:, :n, :n], assumed[:, :n, n:].sum(dim=2)
    inverse = torch.linalg.inv(known)
    row = inverse.sum(dim=2)
    total = row.sum(dim=1, keepdim=True)
    of_rest = (inverse @ between[:, :, None])[:, :, 0]
    by_level = count - n - of_rest.sum(dim=1, keepdim=True)
    weights = (1 + of_rest + by_level * row / total) / count
    residual = inverse - row[:, :, None] * row[:, None, :] / total[:, :, None]
    difference = torch.cat([weights, weights.new_zeros(len(weights), count - n)], dim=1) - 1 / count
    squared = ((laws @ difference[:, :, None])[..., 0] * difference).sum(dim=2)
    estimated = (residual * laws[:, :, :n, :n]).sum(dim=(2, 3)) / max(1, n - 1)
    error = squared / estimated if n < count else torch.zeros_like(squared)
    return Prediction(weights, residual, error.amax(dim=0))


def correlations(places: Tensor, reach: float = REACH, nugget: float = NUGGET) -> Tensor:
    """Return the correlation of draws by the distance of their corners, under each law.

    The first law is assumed: Matern's with smoothness 3/2. Under the second, correlation falls off
    exponentially, so that close draws differ more; under the third, draws do not correlate.

    Args:
        places: Left, top, right and bottom end of each draw, (images, N, 4); both axes are divided
            by the extent of all draws.
        reach: Distance over which correlation falls off: to 1 / e under the second law.
        nugget: Share of the variance that does not correlate.

    Returns:
        float64 (laws, images, N, N).
    """
    corners = places.double().unflatten(2, (2, 2))
    low, high = corners.amin(dim=(1, 2), keepdim=True), corners.amax(dim=(1, 2), keepdim=True)
    extent = torch.where(high > low, high - low, 1.0)
    scaled = ((corners - low) / extent).flatten(2)
    apart = torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist") / reach
    smooth = (1 + math.sqrt(3) * apart) * (-math.sqrt(3) * apart).exp()
    alone = torch.eye(places.shape[1], dtype=torch.float64, device=places.device)
    by_place = (1 - nugget) * torch.stack([smooth, (-apart).exp()]) + nugget * alone
    return torch.cat([by_place, alone.expand(1, *apart.shape)])
