"""Blocks of a convolutional encoder as blocks of a tower: a map is a grid of tokens.

A convolution sees the window alone, resized to the whole grid; nothing of the rest of the image is
in it but what earlier layers have brought in.
"""

from __future__ import annotations

from math import isqrt

from torch import Tensor, nn

from pipeline.kernels.blocks import UNMARKED, Marks, all_tokens_after


class MapBlock(nn.Module):
    """A block that computes a map of as many places: holds the block, (n, channels, grid, grid)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block


@all_tokens_after.register
def _all_tokens_after(block: MapBlock, tokens: Tensor, marks: Marks = UNMARKED) -> Tensor:
    if not marks.empty:
        raise ValueError("a block of convolutions has no place for the marks of a visual prompt")
    grid, dtype = isqrt(tokens.shape[1]), next(block.parameters()).dtype
    places = tokens.to(dtype).mT.unflatten(2, (grid, grid))
    after: Tensor = block.block(places).flatten(2).mT
    return after
