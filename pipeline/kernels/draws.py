"""The crops of one image, from its attention and its own stream of uniforms.

A row of uniforms decides one crop: one column the patch, one each the width and the height. All
that can be drawn lies on one [0, 1), of which a setting allows a part, so that settings draw alike.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.kernels import geometry, sampling
from pipeline.kernels.geometry import View

SizeRule = Literal["integer", "ratio"]


def share_range(size: int, alpha: float, beta: float, rule: SizeRule) -> tuple[float, float]:
    """The part of [0, 1) that stands for the sides a crop can have (Eq. 6).

    rule: `integer`, a whole number of pixels from int(alpha s) to int(beta s), both included, as
    released; `ratio`, any share from [alpha, beta). ValueError for another rule.
    """
    if rule not in get_args(SizeRule):
        raise ValueError(f"unknown rule {rule!r}: {' or '.join(get_args(SizeRule))}")
    if rule == "ratio":
        return alpha, beta
    return sampling.whole_range(*geometry.size_bounds(size, alpha, beta), size + 1)


def crop_share(number: Tensor, size: int, alpha: float, beta: float, rule: SizeRule) -> Tensor:
    """Sides as shares of the image's, from numbers of `share_range`: float64 (n,) to (n,)."""
    if rule == "ratio":
        return number
    bounds = geometry.size_bounds(size, alpha, beta)
    return sampling.whole(*bounds, size + 1, number).double() / size


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


def window_range(grid: int, alpha: float, beta: float) -> tuple[float, float]:
    """The part of [0, 1) that stands for the sizes of a square window."""
    return sampling.whole_range(*geometry.window_bounds(grid, alpha, beta), grid + 2)


def window_choice(number: Tensor, grid: int, alpha: float, beta: float) -> Tensor:
    """Which of `window_sizes`, from numbers of `window_range`: float64 (n,) to int64 (n,)."""
    low, high = geometry.window_bounds(grid, alpha, beta)
    return sampling.whole(low, high, grid + 2, number) - low


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
