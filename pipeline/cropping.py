"""The crops of one image under the settings of a view set; the kernels do the arithmetic.

An image is anything with `width` and `height`. A row of its uniforms decides one crop: raw crops
take the first three columns (patch, width, height), feature crops the next three, or the same ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pipeline.kernels import draws, geometry, sampling
from pipeline.views import CropsConfig, TokenGrid, WindowsConfig, WindowSpace

RAW, FEATURE = slice(0, 3), slice(3, 6)

Range = tuple[float, float]


def raw_crops(image: Any, attention: Tensor, uniforms: Tensor, config: CropsConfig) -> Tensor:
    """Patch and box of each crop: (patches,), float64 (n, layers, 8) to int64 (n, 5)."""
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
    """Patch, token, window and outcome of each crop: (patches,), float64 (n, layers, 8) to
    int64 (n, 7).

    The outcome is the row of the same window in `possible_windows`; -1 for other shapes.
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
        found = geometry.square_windows(places, sizes[chosen], grid.tokens)
        outcome = rank * len(sizes) + chosen
    elif windows.shape == "ratio":
        shares = _shares(image, sides, config)
        found = geometry.ratio_windows(places, shares, grid.tokens, view)
    else:
        boxes = _boxes(image, patch, _shares(image, sides, config), source)
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


def _drawn(
    attention: Tensor, k: int, config: CropsConfig, uniforms: Tensor, sides: list[Range]
) -> tuple[Tensor, Tensor, Tensor]:
    """The top patches, the rank of each crop's among them, and numbers for its two sides.

    The patch is drawn from softmax over all patches by rank, so that another k draws alike.
    """
    patches, odds = sampling.top_patches(attention, k, config.temperature)
    share = sampling.top_share(attention, k, config.temperature)
    low, high = zip((0.0, share), *sides, strict=True)
    numbers = sampling.within(uniforms, low, high)
    return patches, sampling.choose(odds, numbers[:, 0] / share), numbers[:, 1:]


def _ranges(image: Any, config: CropsConfig) -> list[Range]:
    bounds = config.alpha, config.beta, config.sizes
    return [draws.share_range(size, *bounds) for size in (image.width, image.height)]


def _shares(image: Any, sides: Tensor, config: CropsConfig) -> Tensor:
    pairs = zip(sides.unbind(dim=1), (image.width, image.height), strict=True)
    bounds = config.alpha, config.beta, config.sizes
    return torch.stack([draws.crop_share(side, size, *bounds) for side, size in pairs], dim=-1)


def _boxes(image: Any, patch: Tensor, shares: Tensor, source: int) -> Tensor:
    return draws.crop_boxes(patch, shares, source, image.width, image.height)
