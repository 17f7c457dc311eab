"""The crops of one image under the settings of a view set; the kernels do the arithmetic.

An image is anything with `width` and `height`. A row of its uniforms decides one crop: raw crops
take the first three (patch, width, height), feature crops the next three, or the same ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pipeline.kernels import draws, geometry, sampling
from pipeline.views import CropsConfig, TokenGrid, WindowsConfig, WindowSpace

RAW, FEATURE = slice(0, 3), slice(3, 6)


def raw_crops(image: Any, attention: Tensor, uniforms: Tensor, config: CropsConfig) -> Tensor:
    """Patch and box of each crop: (patches,), float64 (n, 8) to int64 (n, 5)."""
    patches, odds = sampling.top_patches(attention, config.k, config.temperature)
    patch = patches[sampling.choose(odds, uniforms[:, 0])]
    shares = _shares(image, uniforms[:, RAW], config)
    return torch.column_stack([patch, _boxes(image, patch, shares, _side(attention))])


def feature_crops(
    image: Any,
    attention: Tensor,
    uniforms: Tensor,
    config: CropsConfig,
    windows: WindowsConfig,
    grid: TokenGrid,
) -> Tensor:
    """Patch, token, window and outcome of each crop: (patches,), float64 (n, 8) to int64 (n, 7).

    The outcome is the row of the same window in `possible_windows`; -1 for other shapes.
    """
    u = uniforms[:, RAW if windows.draws == "joint" else FEATURE]
    patches, odds = sampling.top_patches(attention, windows.top(config), config.temperature)
    rank, view, source = sampling.choose(odds, u[:, 0]), _view(image, grid), _side(attention)
    patch = patches[rank]
    places = geometry.token_places(patch, source, grid.tokens, view, windows.index)
    outcome = torch.full_like(rank, -1)
    if windows.shape == "square":
        sizes = draws.window_sizes(grid.tokens, config.alpha, config.beta)
        chosen = sampling.integers(0, len(sizes) - 1, u[:, 1])
        found = geometry.square_windows(places, sizes[chosen], grid.tokens)
        outcome = rank * len(sizes) + chosen
    elif windows.shape == "ratio":
        shares = _shares(image, u, config)
        found = geometry.ratio_windows(places, shares, grid.tokens, view)
    else:
        boxes = _boxes(image, patch, _shares(image, u, config), source)
        found = geometry.box_windows(boxes, image.width, image.height, grid.tokens, view)
    token = geometry.tokens_at(places, grid.tokens)
    return torch.column_stack([patch, token, found, outcome])


def possible_windows(image: Any, attention: Tensor, space: WindowSpace, grid: TokenGrid) -> Tensor:
    """Patch, token and window of everything that can be drawn: (patches,) to int64 (n, 6).

    By rank of the patch, then by size.
    """
    patches, _ = sampling.top_patches(attention, space.k, temperature=1.0)
    sizes = draws.window_sizes(grid.tokens, space.alpha, space.beta)
    places, found = draws.all_windows(
        patches, sizes, _side(attention), grid.tokens, _view(image, grid), space.index
    )
    patch = patches.repeat_interleave(len(sizes))
    return torch.column_stack([patch, geometry.tokens_at(places, grid.tokens), found])


def _side(attention: Tensor) -> int:
    return math.isqrt(len(attention))


def _view(image: Any, grid: TokenGrid) -> geometry.View:
    return geometry.clip_view(image.width, image.height, grid.pixels, grid.mode)


def _shares(image: Any, u: Tensor, config: CropsConfig) -> Tensor:
    size = image.width, image.height
    return draws.crop_shares(u[:, 1:], *size, config.alpha, config.beta, config.sizes)


def _boxes(image: Any, patch: Tensor, shares: Tensor, source: int) -> Tensor:
    return draws.crop_boxes(patch, shares, source, image.width, image.height)
