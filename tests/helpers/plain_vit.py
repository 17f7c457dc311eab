"""Small ViTs of open_clip, and a reference in float64 for their blocks from a given layer on.

The reference computes a full attention matrix for every sequence and shares no code with the
pipeline.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor

from tests.helpers import small_models

Window = tuple[int, int, int, int]


def small_vit(grid: int, quick: bool = False, layer_scale: float | None = None) -> Any:
    """Build a ViT with 4 layers, 4 heads, width 64, and grid x grid patches of 8 pixels.

    Weights are random.
    """
    visual = VisionTransformer(
        image_size=8 * grid,
        patch_size=8,
        width=64,
        layers=4,
        heads=4,
        mlp_ratio=4.0,
        ls_init_value=layer_scale,
        output_dim=24,
        act_layer=QuickGELU if quick else torch.nn.GELU,
    )
    small_models.fill(visual, seed=grid, gain=2.0)
    return visual.eval().requires_grad_(False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: a second one only slows matrix products of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def doubled(visual: Any) -> Any:
    """Return a copy in float64."""
    return copy.deepcopy(visual).double()


def tokens_of(grid: int, width: int = 64) -> Tensor:
    """Draw random tokens of an image: float64 (1 + grid * grid, width)."""
    return torch.tensor(np.random.default_rng(grid).standard_normal((1 + grid * grid, width)))


def stretched(tokens: Tensor, window: Window) -> Tensor:
    """Return the class token, then the window's tokens resized to the whole grid."""
    left, top, right, bottom = window
    grid = math.isqrt(len(tokens) - 1)
    image = tokens[1:].T.reshape(1, -1, grid, grid)[:, :, top:bottom, left:right]
    whole = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([tokens[:1], whole[0].flatten(1).T])


def inside(grid: int, window: Window) -> Tensor:
    """Return the mask of tokens in the window, False for the class token: (1 + grid * grid,)."""
    left, top, right, bottom = window
    columns, rows = range(left, right), range(top, bottom)
    within = [r in rows and c in columns for r in range(grid) for c in range(grid)]
    return torch.tensor([False, *within])


@dataclass(frozen=True)
class Prompted:
    """Factors for the tokens of a sequence in one block: (tokens,) each."""

    normed: Tensor | None = None
    """Factors for the output of the first norm, from which queries, keys and values are made."""
    attention: Tensor | None = None
    """Factors for the class token's attention, before it is normalised to 1."""


def embedding(
    visual: Any, sequence: Tensor, layer: int, prompted: Prompted | None = None
) -> Tensor:
    """Encode one sequence that enters block `layer` as a unit vector; prompt that block only."""
    for block in list(visual.transformer.resblocks)[layer:]:
        sequence, prompted = plain_block(block, sequence, prompted or Prompted()), None
    pooled = layer_norm(sequence[:1], visual.ln_post)[0]
    vector: Tensor = pooled @ visual.proj.double()
    return vector / (vector**2).sum().sqrt()


def plain_block(block: Any, x: Tensor, prompted: Prompted) -> Tensor:
    """Apply a block to all tokens of one sequence: (tokens, width)."""
    normed = layer_norm(x, block.ln_1)
    if prompted.normed is not None:
        normed = normed * prompted.normed[:, None]
    x = x + scaled(attended(block.attn, normed, prompted.attention), block.ls_1)
    hidden = linear(layer_norm(x, block.ln_2), block.mlp.c_fc)
    if isinstance(block.mlp.gelu, QuickGELU):
        hidden = hidden / (1 + (-1.702 * hidden).exp())
    else:
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return x + scaled(linear(hidden, block.mlp.c_proj), block.ls_2)


def attended(attention: Any, normed: Tensor, factors: Tensor | None) -> Tensor:
    weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
    query, key, value = (normed @ weight.T + bias).chunk(3, dim=-1)
    size, outs = normed.shape[1] // attention.num_heads, []
    for start in range(0, normed.shape[1], size):
        part = slice(start, start + size)
        powers = (query[:, part] @ key[:, part].T / math.sqrt(size)).exp()
        if factors is not None:
            powers[0] *= factors
        outs.append(powers / powers.sum(dim=1, keepdim=True) @ value[:, part])
    return linear(torch.cat(outs, dim=1), attention.out_proj)


def linear(x: Tensor, layer: Any) -> Tensor:
    moved: Tensor = x @ layer.weight.double().T + layer.bias.double()
    return moved


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = ((centred**2).mean(dim=-1, keepdim=True) + norm.eps).sqrt()
    normed: Tensor = centred / deviation * norm.weight.double() + norm.bias.double()
    return normed


def scaled(x: Tensor, scale: Any) -> Tensor:
    gamma: Tensor = getattr(scale, "gamma", torch.ones(()))
    return x * gamma.double()
