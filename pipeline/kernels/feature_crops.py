"""Crops inside CLIP's token grid (section 3.3), and the other ways to point at a part of it.

A window of the tokens that enter a block becomes a sequence of tokens of its own, which goes
through the remaining blocks with the image's own class token in front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor

from pipeline.kernels.blocks import UNMARKED, Marks, all_tokens_after, class_token_after
from pipeline.kernels.prompt_names import FeaturePrompt
from pipeline.kernels.windows import Stretch, class_token_after_windows, grid_of


@dataclass(frozen=True)
class Sequences:
    """Token sequences that enter a block, (n, 1 + grid * grid, width), and their marks in it."""

    tokens: Tensor
    marks: Marks = UNMARKED

    @classmethod
    def joined(cls, parts: Sequence[Sequences]) -> Sequences:
        """Several as one, marked alike."""
        marks = Marks.joined([part.marks for part in parts])
        return cls(torch.cat([part.tokens for part in parts]), marks)


def encode_windows(
    visual: VisionTransformer,
    tokens: Tensor,
    windows: Tensor,
    layer: int,
    prompt: FeaturePrompt = "crop",
    gain: float = 2.0,
) -> Tensor:
    """The embeddings of an image's feature crops (Eq. 7).

    visual: the image encoder of an open_clip CLIP with a class token.
    tokens: (1 + grid * grid, width) as they enter block `layer`, in the encoder's dtype.
    windows: integers (n, 4), left, top, right, bottom, half-open, inside the grid.
    layer: 0 for the first block, -1 for the last.
    Returns unit vectors (n, dim), in the tokens' dtype. ValueError for a layer that is none, tokens
    that are no square grid, windows that are empty or leave it, or an unknown prompt.
    """
    blocks = len(visual.transformer.resblocks)
    if not -blocks <= layer < blocks:
        raise ValueError(f"layer {layer} is not one of {blocks} blocks")
    if prompt == "crop" and layer in (-1, blocks - 1):
        final = class_token_after_windows(visual.transformer.resblocks[-1], tokens, windows)
        return F.normalize(_project(visual, final), dim=-1)
    sequences = prompt_windows(tokens, windows, prompt, gain)
    return F.normalize(finish(visual, sequences, layer), dim=-1)


def finish(visual: VisionTransformer, sequences: Sequences, layer: int) -> Tensor:
    """Blocks from `layer` on, final norm and projection: (n, dim), not normalised.

    The marks count in the first of these blocks alone.
    """
    tokens, marks = sequences.tokens, sequences.marks
    *middle, last = list(visual.transformer.resblocks)[layer:]
    for block in middle:
        tokens, marks = all_tokens_after(block, tokens, marks), UNMARKED
    return _project(visual, class_token_after(last, tokens, marks))


def _project(visual: VisionTransformer, class_token: Tensor) -> Tensor:
    """Final norm and projection: (n, width) to (n, dim)."""
    pooled, _ = visual._pool(class_token[:, None])
    projected: Tensor = pooled @ visual.proj
    return projected


def prompt_windows(
    tokens: Tensor, windows: Tensor, prompt: FeaturePrompt, gain: float = 2.0
) -> Sequences:
    """What makes each window stand out of the image's tokens (Table 5).

    tokens: (1 + grid * grid, width); windows: integers (n, 4).
    crop: the window stretched over the grid (`resize_windows`).
    mask: tokens outside the window are zero as they enter the block.
    highlight-fea: tokens in the window are multiplied by `gain` after the block's first norm, which
    would undo it before.
    highlight-attn: the class token's attention to the window is multiplied by `gain` before it is
    normalised.
    ValueError as for `encode_windows`.
    """
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    if prompt not in get_args(FeaturePrompt):
        raise ValueError(f"unknown prompt {prompt!r}: one of {', '.join(get_args(FeaturePrompt))}")
    if prompt == "crop":
        return Sequences(resize_windows(tokens, windows))
    inside = covered(windows, grid_of(tokens, windows)).to(tokens.device)
    whole = tokens.expand(len(windows), -1, -1)
    none = inside.new_zeros(len(windows), 1)
    chosen = torch.cat([none, inside], dim=1).to(tokens.dtype)
    if prompt == "mask":
        kept = torch.cat([~none, inside], dim=1)
        return Sequences(whole * kept[..., None])
    if prompt == "highlight-fea":
        return Sequences(whole, Marks(gain=1 + (gain - 1) * chosen))
    return Sequences(whole, Marks(bias=math.log(gain) * chosen))


def covered(windows: Tensor, grid: int) -> Tensor:
    """Which tokens lie in each window: integers (n, 4) to bool (n, grid * grid)."""
    line = torch.arange(grid, device=windows.device)
    left, top, right, bottom = windows[:, :, None].unbind(dim=1)
    columns, rows = (line >= left) & (line < right), (line >= top) & (line < bottom)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)


def resize_windows(tokens: Tensor, windows: Tensor) -> Tensor:
    """The token sequences of an image's feature crops (Eq. 7, then bicubic resizing).

    tokens: (1 + grid * grid, width) entering a block, the class token first.
    windows: integers (n, 4), left, top, right, bottom, half-open, inside the grid.
    Returns (n, 1 + grid * grid, width) of the tokens' dtype: the image's own class token, then
    the window stretched over the grid (bicubic, a = -0.75, align_corners=False). ValueError for
    tokens that are no square grid, or windows that are empty or leave it.
    """
    grid = grid_of(tokens, windows)
    image = tokens[1:].reshape(grid, grid, -1)
    stretched = Stretch.of(windows, grid, tokens)(image).flatten(1, 2)
    class_token = tokens[:1].expand(len(windows), 1, -1)
    return torch.cat([class_token, stretched], dim=1)
