"""Crops of one image under the settings of a view set; the kernels do the arithmetic.

An image is any object with `width` and `height` in pixels. A row of its uniforms decides one crop:
raw crops take the first three columns (patch, width, height), feature crops the next three, or the
same ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pipeline.kernels import draws, geometry, sampling
from pipeline.views.config import CropsConfig, TokenGrid, WindowsConfig, WindowSpace

RAW, FEATURE = slice(0, 3), slice(3, 6)

Range = tuple[float, float]
"""Lower and upper bound within [0, 1]."""


def raw_crops(image: Any, attention: Tensor, uniforms: Tensor, config: CropsConfig) -> Tensor:
    """Draw raw crops of one image.

    Args:
        image: Object with `width` and `height`, in pixels.
        attention: Attention to each patch, (patches,).
        uniforms: float64 (n, layers, 8) in [0, 1), from `pipeline.kernels.sampling.layers`.
        config: Settings of the draws.

    Returns:
        Patch and box in pixels of each crop, int64 (n, 5).
    """
    patches, rank, sides = _drawn(
        attention, config.k, config, uniforms[:, :, RAW], _ranges(image, config)
    )
    boxes = _boxes(image, patches[rank], _shares(image, sides, config), _side(attention))
    return torch.column_stack([patches[rank], boxes])


def feature_crops(
    image: Any,
    attention: Tensor,
    uniforms: Tensor,
    config: CropsConfig,
    windows: WindowsConfig,
    grid: TokenGrid,
) -> Tensor:
    """Draw feature crops of one image.

    Args:
        image: Object with `width` and `height`, in pixels.
        attention: Attention to each patch, (patches,).
        uniforms: float64 (n, layers, 8) in [0, 1), from `pipeline.kernels.sampling.layers`.
        config: Settings of the draws.
        windows: Settings of the windows.
        grid: CLIP's token grid.

    Returns:
        Patch, token, window in tokens and outcome of each crop, int64 (n, 7). The outcome is the
            row of the same window in `possible_windows`; -1 for shapes other than squares.
    """
    u = uniforms[:, :, RAW if windows.draws == "joint" else FEATURE]
    bounds = grid.tokens, config.alpha, config.beta
    square = windows.shape == "square"
    ranges = [draws.window_range(*bounds)] * 2 if square else _ranges(image, config)
    patches, rank, sides = _drawn(attention, windows.top(config), config, u, ranges)
    patch, view, source = patches[rank], _view(image, grid), _side(attention)
    places = geometry.token_places(patch, source, grid.tokens, view, windows.index)
    outcome = torch.full_like(rank, -1)
    if square:
        sizes, chosen = draws.window_sizes(*bounds), draws.window_choice(sides[:, 0], *bounds)
        window = geometry.square_windows(places, sizes[chosen], grid.tokens)
        outcome = rank * len(sizes) + chosen
    elif windows.shape == "ratio":
        shares = _shares(image, sides, config)
        window = geometry.ratio_windows(places, shares, grid.tokens, view)
    else:
        boxes = _boxes(image, patch, _shares(image, sides, config), source)
        window = geometry.box_windows(boxes, image.width, image.height, grid.tokens, view)
    token = geometry.tokens_at(places, grid.tokens)
    return torch.column_stack([patch, token, window, outcome])


def possible_windows(image: Any, attention: Tensor, space: WindowSpace, grid: TokenGrid) -> Tensor:
    """List every window that can be drawn, by rank of the patch, then by size.

    Args:
        image: Object with `width` and `height`, in pixels.
        attention: Attention to each patch, (patches,).
        space: Settings that decide which windows exist.
        grid: CLIP's token grid.

    Returns:
        Patch, token and window in tokens, int64 (n, 6).
    """
    patches, _ = sampling.top_patches(attention, space.k, temperature=1.0)
    sizes = draws.window_sizes(grid.tokens, space.alpha, space.beta)
    places, windows = draws.all_windows(
        patches, sizes, _side(attention), grid.tokens, _view(image, grid), space.index
    )
    patch = patches.repeat_interleave(len(sizes))
    return torch.column_stack([patch, geometry.tokens_at(places, grid.tokens), windows])


def _side(attention: Tensor) -> int:
    """Return the number of patches along a side."""
    return math.isqrt(len(attention))


def _view(image: Any, grid: TokenGrid) -> geometry.View:
    """Return the part of the image that the token grid covers."""
    return geometry.clip_view(image.width, image.height, grid.pixels, grid.mode)


def _drawn(
    attention: Tensor, k: int, config: CropsConfig, uniforms: Tensor, sides: list[Range]
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a patch and two numbers per crop.

    The patch is drawn from the softmax over all patches by rank, limited to the top k, so that
    another k draws the same patch where it can.

    Returns:
        Top patches, int64 (k,).
        Rank of each crop's patch among them, int64 (n,).
        Numbers for the two sides of each crop, float64 (n, 2).
    """
    patches, probs = sampling.top_patches(attention, k, config.temperature)
    share = sampling.top_share(attention, k, config.temperature)
    low, high = zip((0.0, share), *sides, strict=True)
    numbers = sampling.within(uniforms, low, high)
    return patches, sampling.choose(probs, numbers[:, 0] / share), numbers[:, 1:]


def _ranges(image: Any, config: CropsConfig) -> list[Range]:
    """Return the ranges for width and height of raw crops."""
    bounds = config.alpha, config.beta, config.sizes
    return [draws.share_range(size, *bounds) for size in (image.width, image.height)]


def _shares(image: Any, sides: Tensor, config: CropsConfig) -> Tensor:
    """Convert numbers for the two sides to shares of the image, float64 (n, 2)."""
    pairs = zip(sides.unbind(dim=1), (image.width, image.height), strict=True)
    bounds = config.alpha, config.beta, config.sizes
    return torch.stack([draws.crop_share(side, size, *bounds) for side, size in pairs], dim=-1)


def _boxes(image: Any, patch: Tensor, shares: Tensor, source: int) -> Tensor:
    """Compute boxes of the given shares around patches."""
    return draws.crop_boxes(patch, shares, source, image.width, image.height)
