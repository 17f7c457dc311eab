"""Prediction of the mean score of all N draws of an image from the first n, by their places.

Crops that lie close together score alike, and the places of all N are known before any is encoded.
Ordinary kriging (best linear unbiased prediction with an unknown mean) uses that: a draw among many
that are there already tells little, one that stands for many to come counts more. The correlation
of two draws is assumed to fall off exponentially with the distance of their places; what it takes
for certain is checked by `by_place` against draws that have nothing to do with their places.
`docs/settling.md` derives the formulas.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.kernels.rounds import NUGGET, REACH


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

    The error is the larger of two: what it is if draws correlate as assumed, and what it is if
    they do not correlate at all, each in what the estimate of the variance is then on average.

    Args:
        places: Left, top, right and bottom end of each of the N draws, there or not, in pixels or
            tokens: (images, N, 4).
        n: Number of draws that are there, the first n.
        reach: Distance over which the correlation falls to 1 / e.
        nugget: Share of the variance that does not correlate.
    """
    count = places.shape[1]
    alike = correlation(places.double(), reach, nugget)
    known, between = alike[:, :n, :n], alike[:, :n, n:].sum(dim=2)
    inverse = torch.linalg.inv(known)
    row = inverse.sum(dim=2)
    total = row.sum(dim=1, keepdim=True)
    of_rest = (inverse @ between[:, :, None])[:, :, 0]
    by_level = count - n - of_rest.sum(dim=1, keepdim=True)
    weights = (1 + of_rest + by_level * row / total) / count
    residual = inverse - row[:, :, None] * row[:, None, :] / total[:, :, None]
    left = alike[:, n:, n:].sum(dim=(1, 2)) - (between * of_rest).sum(dim=1)
    assumed = (left + (by_level**2 / total)[:, 0]) / count**2
    uncorrelated = ((weights - 1 / count) ** 2).sum(dim=1) + (count - n) / count**2
    estimated = residual.diagonal(dim1=1, dim2=2).sum(dim=1) / max(1, n - 1)
    return Prediction(weights, residual, assumed.maximum(uncorrelated / estimated))


def correlation(places: Tensor, reach: float = REACH, nugget: float = NUGGET) -> Tensor:
    """Return the assumed correlation of draws, (images, N, N), by the distance of their corners.

    Args:
        places: Left, top, right and bottom end of each draw, (images, N, 4); both axes are divided
            by the extent of all draws.
        reach: Distance over which the correlation falls to 1 / e.
        nugget: Share of the variance that does not correlate.
    """
    corners = places.unflatten(2, (2, 2))
    low, high = corners.amin(dim=(1, 2), keepdim=True), corners.amax(dim=(1, 2), keepdim=True)
    scaled = ((corners - low) / (high - low)).flatten(2)
    apart = torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist")
    alike = (1 - nugget) * (-apart / reach).exp()
    return alike + nugget * torch.eye(places.shape[1], dtype=places.dtype, device=places.device)
