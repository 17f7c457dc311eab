"""Crop and window sizes from the uniforms of an image's stream.

A row of uniforms decides one crop: one column the patch, one the width, one the height. All sizes
that could be drawn are laid over [0, 1), and a setting allows a part of it, so that settings draw
the same size where their ranges overlap (`pipeline.kernels.sampling.within`).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.kernels import geometry, sampling
from pipeline.kernels.geometry import View

SizeRule = Literal["integer", "ratio"]
"""Rule for the side of a raw crop: a whole number of pixels, or any share of the image's side."""


def share_range(size: int, alpha: float, beta: float, rule: SizeRule) -> tuple[float, float]:
    """Return the part of [0, 1) that stands for the sides that a crop may have (Eq. 6).

    Args:
        size: Width or height of the image, in pixels.
        alpha: Smallest side of a crop, as a share of `size`.
        beta: Largest side, as a share of `size`.
        rule: `integer`, a whole number of pixels from int(alpha * size) to int(beta * size), both
            included, as in the released code; `ratio`, any share in [alpha, beta).

    Returns:
        Lower and upper bound, for `pipeline.kernels.sampling.within`.

    Raises:
        ValueError: For another rule.
    """
    if rule not in get_args(SizeRule):
        raise ValueError(f"unknown rule {rule!r}: {' or '.join(get_args(SizeRule))}")
    if rule == "ratio":
        return alpha, beta
    return sampling.whole_range(*geometry.size_bounds(size, alpha, beta), size + 1)


def crop_share(number: Tensor, size: int, alpha: float, beta: float, rule: SizeRule) -> Tensor:
    """Convert numbers drawn from `share_range` to sides as shares of the image's side.

    Args:
        number: float64 (n,), within the bounds of `share_range`.
        size: Width or height of the image, in pixels.
        alpha: Smallest side of a crop, as a share of `size`.
        beta: Largest side, as a share of `size`.
        rule: As in `share_range`.

    Returns:
        float64 (n,).
    """
    if rule == "ratio":
        return number
    bounds = geometry.size_bounds(size, alpha, beta)
    return sampling.whole(*bounds, size + 1, number).double() / size


def crop_boxes(patch: Tensor, shares: Tensor, grid: int, width: int, height: int) -> Tensor:
    """Compute boxes around patches, with given shares of the image's width and height (Eq. 6).

    Args:
        patch: Flat patch indices, int64 (n,).
        shares: Width and height of each box as shares of the image's, float64 (n, 2).
        grid: Patches along a side of the image.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.

    Returns:
        Half-open boxes in pixels, int64 (n, 4), clipped at the border.
    """
    centers = geometry.patch_centers(patch, grid, width, height)
    # A share computed from whole pixels must give them back; it may be half an ulp too small.
    exact = shares * torch.tensor([width, height], dtype=torch.float64)
    sides = (exact + 1e-9).floor().long()
    return geometry.raw_boxes(centers, sides, width, height)


def square_crops(uniforms: Tensor, width: int, height: int, alpha: float, beta: float) -> Tensor:
    """Draw random squares of an image, as in WCA's released code.

    The side is int(u * s) for u uniform on [alpha, beta) and the image's shorter side s. The
    position is uniform over all places where the square fits.

    Args:
        uniforms: float64 (n, 3) in [0, 1), for the side, x and y.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        alpha: Smallest side, as a share of the shorter side.
        beta: Largest side, as a share of the shorter side.

    Returns:
        Half-open boxes in pixels, int64 (n, 4).
    """
    shares = sampling.between(alpha, beta, uniforms[:, 0])
    sides = (shares * min(width, height)).floor().long()
    return geometry.square_boxes(sides, uniforms[:, 1:], width, height)


AREA = (0.08, 1.0)
"""Smallest and largest share of the image's area that `augmented_crops` draws by default."""
ASPECT = 4 / 3
"""Largest ratio of the sides that it draws."""
ATTEMPTS = 10
"""Boxes that it tries before it takes one around the image's centre."""


def augmented_crops(
    uniforms: Tensor, width: int, height: int, area: tuple[float, float] = AREA
) -> Tensor:
    """Draw boxes and flips of resized crops, as torchvision's RandomResizedCrop does.

    A box has a share of the image's area, uniform on `area`, and a ratio of its sides, log-uniform
    on [1 / `ASPECT`, `ASPECT`). It lies anywhere in the image. Boxes that do not fit are drawn
    again; after `ATTEMPTS`, the box is as much of the image around its centre as has an allowed
    ratio.

    Args:
        uniforms: float64 (n, layers, 8) in [0, 1), at least `ATTEMPTS` layers.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        area: Smallest and largest share of the image's area.

    Returns:
        Half-open box in pixels, and 1 if it is to be flipped left to right, else 0: int64 (n, 5).
    """
    u = uniforms[:, :ATTEMPTS]
    size = width * height * sampling.between(*area, u[..., 0])
    reach = math.log(ASPECT)
    ratio = sampling.between(-reach, reach, u[..., 1]).exp()
    sides = torch.stack([size * ratio, size / ratio], dim=-1).sqrt().round().long()
    free = torch.tensor([width, height]) - sides
    fits = ((sides > 0) & (free >= 0)).all(dim=-1)
    corners = (u[..., 2:4] * (free + 1)).floor().long()
    boxes = torch.cat([corners, corners + sides], dim=-1)
    first = fits.int().argmax(dim=1)
    drawn = boxes[torch.arange(len(boxes)), first]
    drawn[~fits.any(dim=1)] = _around_centre(width, height)
    flips = (uniforms[:, 0, 4] < 0.5).long()
    return torch.cat([drawn, flips[:, None]], dim=1)


def _around_centre(width: int, height: int) -> Tensor:
    """Compute the box around the centre that is cut to an allowed ratio: int64 (4,)."""
    w, h = min(width, round(height * ASPECT)), min(height, round(width * ASPECT))
    left, top = (width - w) // 2, (height - h) // 2
    return torch.tensor([left, top, left + w, top + h])


def window_sizes(grid: int, alpha: float, beta: float) -> Tensor:
    """List the sizes that a square window is drawn from, all equally likely.

    Args:
        grid: Tokens along a side of CLIP's grid.
        alpha: Smallest size, as a share of `grid`.
        beta: Largest size, as a share of `grid`.

    Returns:
        Sizes in tokens, int64 (sizes,), ascending.
    """
    low, high = geometry.window_bounds(grid, alpha, beta)
    return torch.arange(low, high + 1)


def window_range(grid: int, alpha: float, beta: float) -> tuple[float, float]:
    """Return the part of [0, 1) that stands for the sizes of a square window.

    Args:
        grid: Tokens along a side of CLIP's grid.
        alpha: Smallest size, as a share of `grid`.
        beta: Largest size, as a share of `grid`.

    Returns:
        Lower and upper bound, for `pipeline.kernels.sampling.within`.
    """
    return sampling.whole_range(*geometry.window_bounds(grid, alpha, beta), grid + 2)


def window_choice(number: Tensor, grid: int, alpha: float, beta: float) -> Tensor:
    """Convert numbers drawn from `window_range` to indices into `window_sizes`.

    Args:
        number: float64 (n,), within the bounds of `window_range`.
        grid: Tokens along a side of CLIP's grid.
        alpha: Smallest size, as a share of `grid`.
        beta: Largest size, as a share of `grid`.

    Returns:
        int64 (n,).
    """
    low, high = geometry.window_bounds(grid, alpha, beta)
    return sampling.whole(low, high, grid + 2, number) - low


def all_windows(
    patches: Tensor, sizes: Tensor, source: int, grid: int, view: View, index: str
) -> tuple[Tensor, Tensor]:
    """List every square window around some patches.

    Row `rank * m + j` of the results belongs to the patch of that rank and the j-th size. Windows
    that repeat are kept.

    Args:
        patches: Flat patch indices, int64 (k,), by rank.
        sizes: Window sizes in tokens, int64 (m,), as `window_sizes`.
        source: Patches along a side of the image.
        grid: Tokens along a side of CLIP's grid.
        view: Part of the image that the token grid covers.
        index: Rule of `pipeline.kernels.geometry.token_places`.

    Returns:
        Positions of the patches on the token grid, float64 (k * m, 2), x and y in tokens.
        Half-open windows in tokens, int64 (k * m, 4).
    """
    places = geometry.token_places(patches, source, grid, view, index)
    places = places.repeat_interleave(len(sizes), dim=0)
    return places, geometry.square_windows(places, sizes.repeat(len(patches)), grid)
