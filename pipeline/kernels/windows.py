"""Windows of a token grid resized to the whole grid (Eq. 7, then bicubic resizing).

Resizing is linear and separable: a window of an image X of tokens becomes R_y X R_x', with one
small matrix for each pair of ends that a window can have along a side. A batch of windows is thus
two matrix products, and what follows can be computed on the image instead of on each window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from pipeline.kernels import folding
from pipeline.kernels.blocks import after_attention, in_dtype_of


@dataclass(frozen=True)
class Stretch:
    """Matrices that resize n windows to the whole grid, from places in the image to places in the
    window.
    """

    down: Tensor
    """R_y of each window, (n, grid, grid)."""
    across: Tensor
    """R_x of each window, (n, grid, grid)."""

    @classmethod
    def of(cls, windows: Tensor, grid: int, like: Tensor) -> Stretch:
        """Look up the matrices of windows.

        Args:
            windows: Half-open windows in tokens, integers (n, 4).
            grid: Tokens along a side.
            like: Tensor whose dtype and device the matrices get.
        """
        table = _sides(grid, like.dtype, like.device)
        left, top, right, bottom = windows.to(like.device).unbind(dim=1)
        return cls(table[top, bottom], table[left, right])

    def __call__(self, image: Tensor) -> Tensor:
        """Resize each window of images of tokens.

        Args:
            image: (images, grid, grid, channels), for n / images windows of each, by image.

        Returns:
            (n, grid, grid, channels).
        """
        rows = _by_image(self.down, image) @ image.flatten(2)
        stretched: Tensor = self.across[:, None] @ rows.view(-1, *image.shape[1:])
        return stretched

    def pooled(self, weights: Tensor) -> Tensor:
        """Apply the transposed map: weights of places in windows to weights of places in the image.

        Weighted sums over the image then equal those over the windows.

        Args:
            weights: (n, grid, grid, channels).

        Returns:
            (n, grid, grid, channels).
        """
        rows = self.across[:, None].transpose(-1, -2) @ weights
        places = self.down.transpose(-1, -2) @ rows.flatten(2)
        return torch.unflatten(places, 2, weights.shape[2:])

    def squared(self, gram: Tensor) -> Tensor:
        """Compute squared lengths of the resized tokens.

        Args:
            gram: Products of all pairs of an image's tokens, (images, grid, grid, grid, grid), for
                n / images windows of each, by image.

        Returns:
            (n, grid, grid).
        """
        pairs = gram.transpose(2, 3).flatten(3).flatten(1, 2)
        rows = _by_image(_outer(self.down), gram) @ pairs
        rows = rows.view(len(self.down), -1, pairs.shape[-1])
        lengths: Tensor = rows @ _outer(self.across).transpose(-1, -2)
        return lengths


def _by_image(maps: Tensor, images: Tensor) -> Tensor:
    """Put the rows of all maps of an image below each other: (n, rows, columns) to (images, rows
    of n / images maps, columns).
    """
    return maps.reshape(len(images), -1, maps.shape[-1])


def _outer(maps: Tensor) -> Tensor:
    """Compute products of all pairs within each row: (n, grid, grid) to (n, grid, grid * grid)."""
    return (maps[..., :, None] * maps[..., None, :]).flatten(2)


@lru_cache(maxsize=8)
def _sides(grid: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Tabulate the bicubic maps of every part of a side to the whole side.

    Bicubic means a = -0.75 and align_corners=False, as in torch.

    Returns:
        (grid + 1, grid + 1, grid, grid), by first end and last end of the part, then by place in
            the resized part and place along the side.
    """
    table = torch.zeros(grid + 1, grid + 1, grid, grid, dtype=torch.float64)
    for length in range(1, grid + 1):
        line = torch.eye(length, dtype=torch.float64)[None, :, None]
        stretched = F.interpolate(line, size=(1, grid), mode="bicubic", align_corners=False)
        for first in range(grid - length + 1):
            table[first, first + length, :, first : first + length] = stretched[0, :, 0].T
    return table.to(device, dtype)


def class_token_after_windows(
    block: ResidualAttentionBlock, tokens: Tensor, windows: Tensor
) -> Tensor:
    """Compute the class token that leaves a block, for each window resized to the whole grid.

    Equal to `class_token_after` of the resized windows, which are never built: their norms follow
    from the products of all pairs of the image's tokens, their attention and its weighted mean from
    maps of the image.

    Args:
        block: Block of an open_clip ViT.
        tokens: Tokens of images that enter it, (images, 1 + grid * grid, width), the class token
            first.
        windows: Half-open windows in tokens, integers (images, n, 4).

    Returns:
        (images, n, width).

    Raises:
        ValueError: As in `grid_of`.
    """
    grid, norm = grid_of(tokens, windows), block.ln_1
    tokens = in_dtype_of(block, tokens)
    stretch = Stretch.of(windows.flatten(0, 1), grid, tokens)
    first, image = tokens[:, :1], tokens[:, 1:]
    image = image - image.mean(dim=-1, keepdim=True)

    products = (image @ image.mT / image.shape[-1]).view(-1, grid, grid, grid, grid)
    deviation = (stretch.squared(products).clamp(min=0) + norm.eps).sqrt()[..., None]

    normed: Tensor = norm(first)
    folded = folding.folded_query(block.attn, normed[:, 0])
    likeness = image @ (norm.weight * folded).mT
    logits = stretch(likeness.unflatten(1, (grid, grid))) / deviation
    logits = logits.flatten(1, 2).mT.unflatten(0, windows.shape[:2])  # (images, n, heads, places)
    logits = logits + (folded @ norm.bias)[:, None, :, None]
    class_logit = (folded @ normed.mT)[:, None].expand(*logits.shape[:3], 1)
    weights = torch.cat([class_logit, logits], dim=-1).softmax(dim=-1)

    of_first, of_image = weights[..., :1], weights[..., 1:]
    of_places = of_image.flatten(0, 1).mT.unflatten(1, (grid, grid)) / deviation
    places = stretch.pooled(of_places).flatten(1, 2).mT
    mean = (_by_image(places, image) @ image).view(*weights.shape[:3], -1)
    pooled = of_first * normed[:, :, None] + norm.weight * mean + (1 - of_first) * norm.bias
    attended = folding.attended(block.attn, pooled.flatten(0, 1)).unflatten(0, windows.shape[:2])
    return after_attention(block, first.expand(*attended.shape), attended)


def grid_of(tokens: Tensor, windows: Tensor, prefix: int = 1) -> int:
    """Return the number of tokens along a side, after checking tokens and windows.

    Windows on a device are not read, which would wait for it: check them before they go there.

    Args:
        tokens: Tokens of images, (..., prefix + grid * grid, width), the patches last.
        windows: Half-open windows in tokens, integers (..., n, 4), inside the grid.
        prefix: Number of tokens before the patches: 1 for a class token.

    Raises:
        ValueError: For tokens that are not a square grid behind the prefix, or windows of another
            shape or dtype, that are empty, or that leave the grid.
    """
    count = tokens.shape[-2] if tokens.ndim > 1 else 0
    grid = math.isqrt(max(count - prefix, 0))
    if grid * grid + prefix != count or not grid:
        raise ValueError(
            f"tokens of shape {tuple(tokens.shape)}: expected ({prefix} + grid * grid, width)"
        )
    if windows.ndim < 2 or windows.shape[-1] != 4 or windows.is_floating_point():
        raise ValueError(f"windows of shape {tuple(windows.shape)}: expected integers (n, 4)")
    first, last = windows.split(2, dim=-1)
    if windows.device.type == "cpu" and ((first < 0) | (first >= last) | (last > grid)).any():
        raise ValueError(f"a window is empty or leaves the grid of {grid} x {grid} tokens")
    return grid
