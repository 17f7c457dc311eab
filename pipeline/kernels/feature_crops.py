"""Crops inside CLIP's token grid (section 3.3), and the other visual prompts on tokens (Table 5).

A window of the tokens that enter a block becomes a token sequence of its own, which goes through
the remaining blocks behind the image's own class token, and the tail. Where the tail pools by
attention, a window can also enter there: attention is then over the window's tokens alone, and over
those before the patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor

from pipeline.kernels.blocks import UNMARKED, Marks, all_tokens_after, class_token_after
from pipeline.kernels.prompt_names import FeaturePrompt
from pipeline.kernels.towers import Tower, class_token_tower
from pipeline.kernels.windows import Stretch, class_token_after_windows, grid_of


@dataclass(frozen=True)
class Sequences:
    """Token sequences that enter a block, with the marks of a visual prompt."""

    tokens: Tensor
    """(n, prefix + grid * grid, width), the patches last."""
    marks: Marks = UNMARKED
    """Changes inside the block that the sequences enter."""


def encode_windows(
    visual: VisionTransformer,
    tokens: Tensor,
    windows: Tensor,
    layer: int,
    prompt: FeaturePrompt = "crop",
    gain: float = 2.0,
) -> Tensor:
    """Encode feature crops of an image (Eq. 7).

    Args:
        visual: Image encoder of an open_clip CLIP with a class token.
        tokens: Tokens of one image that enter block `layer`, (1 + grid * grid, width), the class
            token first, in the encoder's dtype.
        windows: Half-open windows in tokens, integers (n, 4): left, top, right, bottom.
        layer: Block that the windows enter: 0 for the first, -1 for the last.
        prompt: Visual prompt; see `prompt_windows`.
        gain: Strength of the two highlights.

    Returns:
        Unit vectors (n, dim), in the dtype of the tokens.

    Raises:
        ValueError: For a layer that does not exist, an unknown prompt, tokens that are not a square
            grid behind a class token, or windows that are empty or leave the grid.
    """
    tower = class_token_tower(visual)
    blocks = len(tower.blocks)
    if not -blocks <= layer < blocks:
        raise ValueError(f"layer {layer} is not one of {blocks} blocks")
    if prompt == "crop" and layer in (-1, blocks - 1):
        (embeddings,) = finish_windows(tower, tokens[None], windows[None])
        return F.normalize(embeddings, dim=-1)
    sequences = prompt_windows(tokens, windows, prompt, gain)
    return F.normalize(finish(tower, sequences, layer), dim=-1)


def finish_windows(tower: Tower, tokens: Tensor, windows: Tensor) -> Tensor:
    """Run the last layer and the tail over equally many windows of images.

    Args:
        tower: Image encoder that shares windows (`Tower.shares_windows`). Its last layer is the
            pooling by attention, or else the last block.
        tokens: Tokens that enter the last layer, (images, prefix + grid * grid, width).
        windows: Half-open windows in tokens, integers (images, n, 4).

    Returns:
        Embeddings (images, n, dim), not normalised.

    Raises:
        ValueError: As in `encode_windows`.
    """
    if tower.tail.attends:
        grid = grid_of(tokens, windows, tower.prefix)
        inside = covered(windows.flatten(0, 1).to(tokens.device), grid)
        parts = F.pad(inside, (tower.prefix, 0), value=True).unflatten(0, windows.shape[:2])
        of_windows: Tensor = tower.tail.of_parts(tokens, parts)
        return of_windows
    final = class_token_after_windows(tower.blocks[-1], tokens, windows)
    embeddings = tower.tail(final.flatten(0, 1)[:, None])
    return torch.unflatten(embeddings, 0, windows.shape[:2])


def finish(tower: Tower, sequences: Sequences, layer: int) -> Tensor:
    """Run the layers from `layer` on, and the tail.

    Args:
        tower: Image encoder.
        sequences: Tokens that enter layer `layer`; their marks apply to this layer only.
        layer: First layer to run (`Tower.layers`); negative ones count from the end.

    Returns:
        Embeddings (n, dim), not normalised.
    """
    tokens, marks = sequences.tokens, sequences.marks
    entered = list(tower.blocks)[layer % tower.layers :]
    if not entered:
        at_pooling: Tensor = tower.tail(tokens, marks)
        return at_pooling
    *middle, last = entered
    for block in middle:
        tokens, marks = all_tokens_after(block, tokens, marks), UNMARKED
    if tower.tail.reads_class_token_only:
        final = class_token_after(last, tokens, marks)[:, None]
    else:
        final = all_tokens_after(last, tokens, marks)
    embeddings: Tensor = tower.tail(final)
    return embeddings


def prompt_windows(
    tokens: Tensor, windows: Tensor, prompt: FeaturePrompt, gain: float = 2.0, prefix: int = 1
) -> Sequences:
    """Apply a visual prompt to windows of images' tokens (Table 5, feature space).

    Args:
        tokens: Tokens that enter a layer, the patches last: (prefix + grid * grid, width) of one
            image, or (n, prefix + grid * grid, width) of each window's image.
        windows: Half-open windows in tokens, integers (n, 4).
        prompt: `crop`, the window resized to the grid (`resize_windows`); `mask`, tokens outside
            the window are zero as they enter the layer; `highlight-fea`, tokens in the window are
            multiplied by `gain` after the layer's first norm, which would undo it before;
            `highlight-attn`, the attention of the class token, or of a pooling's query, to the
            window is multiplied by `gain` before it is normalised.
        gain: Strength of the two highlights.
        prefix: Number of tokens before the patches: 1 for a class token.

    Returns:
        n sequences in float32 or finer.

    Raises:
        ValueError: For an unknown prompt, tokens that are not a square grid behind the prefix, or
            windows that are empty or leave the grid.
    """
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    if prompt not in get_args(FeaturePrompt):
        raise ValueError(f"unknown prompt {prompt!r}: one of {', '.join(get_args(FeaturePrompt))}")
    if prompt == "crop":
        return Sequences(resize_windows(tokens, windows, prefix))
    inside = covered(windows.to(tokens.device), grid_of(tokens, windows, prefix))
    whole = tokens.expand(len(windows), -1, -1)
    none = inside.new_zeros(len(windows), prefix)
    chosen = torch.cat([none, inside], dim=1).to(tokens.dtype)
    if prompt == "mask":
        kept = torch.cat([~none, inside], dim=1)
        return Sequences(whole * kept[..., None])
    if prompt == "highlight-fea":
        return Sequences(whole, Marks(gain=1 + (gain - 1) * chosen))
    return Sequences(whole, Marks(bias=math.log(gain) * chosen))


def covered(windows: Tensor, grid: int) -> Tensor:
    """Compute which tokens lie in each window.

    Args:
        windows: Half-open windows in tokens, integers (n, 4).
        grid: Tokens along a side.

    Returns:
        bool (n, grid * grid).
    """
    line = torch.arange(grid, device=windows.device)
    left, top, right, bottom = windows[:, :, None].unbind(dim=1)
    columns, rows = (line >= left) & (line < right), (line >= top) & (line < bottom)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)


def resize_windows(tokens: Tensor, windows: Tensor, prefix: int = 1) -> Tensor:
    """Build the token sequences of feature crops (Eq. 7, then bicubic resizing).

    Args:
        tokens: Tokens that enter a block, the patches last: (prefix + grid * grid, width) of one
            image, or (n, prefix + grid * grid, width) of each window's image.
        windows: Half-open windows in tokens, integers (n, 4): left, top, right, bottom.
        prefix: Number of tokens before the patches: 1 for a class token.

    Returns:
        (n, prefix + grid * grid, width) in the dtype of the tokens: the image's own tokens before
            the patches, then the window resized to the grid (bicubic, a = -0.75,
            align_corners=False).

    Raises:
        ValueError: For tokens that are not a square grid behind the prefix, or windows that are
            empty or leave the grid.
    """
    grid = grid_of(tokens, windows, prefix)
    tokens = tokens if tokens.ndim == 3 else tokens[None]
    image = tokens[:, prefix:].unflatten(1, (grid, grid))
    stretched = Stretch.of(windows, grid, tokens)(image).flatten(1, 2)
    first = tokens[:, :prefix].expand(len(windows), prefix, -1)
    return torch.cat([first, stretched], dim=1)
