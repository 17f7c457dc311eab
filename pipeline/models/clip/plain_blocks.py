"""Plain blocks of other libraries as those of open_clip, with the same weights."""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn


def plain_block(
    heads: int,
    norms: tuple[nn.Module, nn.Module],
    weight: Tensor,
    bias: Tensor | None,
    out: nn.Linear,
    mlp: tuple[nn.Linear, nn.Module, nn.Linear],
) -> ResidualAttentionBlock:
    """Build a block of open_clip's ViT of given parts.

    Args:
        heads: Number of heads.
        norms: Norms before attention and MLP.
        weight: Weights of queries, keys and values, (3 * width, width).
        bias: Their biases, (3 * width,); None for none.
        out: Output projection of the attention.
        mlp: First layer, activation and second layer of the MLP.
    """
    width = weight.shape[1]
    with torch.device("meta"):
        block = ResidualAttentionBlock(width, heads)
    block.ln_1, block.ln_2 = norms
    block.attn.in_proj_weight, block.attn.out_proj = nn.Parameter(weight), out
    block.attn.in_proj_bias = nn.Parameter(weight.new_zeros(3 * width) if bias is None else bias)
    block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj = mlp
    return block
