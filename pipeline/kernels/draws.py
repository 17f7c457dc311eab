"""The crops of one image, from its attention and its own stream of uniforms.

A row of uniforms decides one crop: one of them the patch, one each the width and the height.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.kernels import geometry, sampling
from pipeline.kernels.geometry import View

SizeRule = Literal["integer", "ratio"]


def crop_shares(
    uniforms: Tensor, width: int, height: int, alpha: float, beta: float, rule: SizeRule
) -> Tensor:
    """Sides of crops as shares of the image's (Eq. 6): float64 (n, 2) in [0, 1) to (n, 2).

    rule: `integer`, a whole number of pixels from int(alpha s) to int(beta s), both included, as
    released; `ratio`, any share from [alpha, beta). ValueError for another rule.
    """
    if rule not in get_args(SizeRule):
        raise ValueError(f"unknown rule {rule!r}: {' or '.join(get_args(SizeRule))}")
    shares = []
    for axis, size in enumerate((width, height)):
        if rule == "ratio":
            shares.append(sampling.between(alpha, beta, uniforms[:, axis]))
        else:
            bounds = geometry.size_bounds(size, alpha, beta)
            shares.append(sampling.integers(*bounds, uniforms[:, axis]).double() / size)
    return torch.stack(shares, dim=-1)


def crop_boxes(patch: Tensor, shares: Tensor, grid: int, width: int, height: int) -> Tensor:
    """Boxes of those shares around patches: int64 (n,), float64 (n, 2) to int64 (n, 4)."""
    centers = geometry.patch_centers(patch, grid, width, height)
    # A share that came from whole pixels gives these back: the quotient is off by half an ulp.
    exact = shares * torch.tensor([width, height], dtype=torch.float64)
    sides = (exact + 1e-9).floor().long()
    return geometry.raw_boxes(centers, sides, width, height)


def square_crops(uniforms: Tensor, width: int, height: int, alpha: float, beta: float) -> Tensor:
    """Random squares of an image (WCA): float64 (n, 3) in [0, 1) to int64 (n, 4).

    The side is int(u s), u uniform on [alpha, beta) and s the shorter side; the place is uniform.
    """
    shares = sampling.between(alpha, beta, uniforms[:, 0])
    sides = (shares * min(width, height)).floor().long()
    return geometry.square_boxes(sides, uniforms[:, 1:], width, height)


def window_sizes(grid: int, alpha: float, beta: float) -> Tensor:
    """The sizes that a square window is drawn from, each as likely: int64 (sizes,)."""
    low, high = geometry.window_bounds(grid, alpha, beta)
    return torch.arange(low, high + 1)


def all_windows(
    patches: Tensor, sizes: Tensor, source: int, grid: int, view: View, index: str
) -> tuple[Tensor, Tensor]:
    """Every square window around some patches: places (n, 2) and windows (n, 4).

    patches: int64 (k,), by rank; sizes: int64 (m,). Row `rank * m + j` is of patch `rank` and the
    j-th size, so that n is k * m, whether or not windows repeat.
    """
    places = geometry.token_places(patches, source, grid, view, index)
    places = places.repeat_interleave(len(sizes), dim=0)
    return places, geometry.square_windows(places, sizes.repeat(len(patches)), grid)
