"""A block of timm's `Eva`: rotary positions, gated MLPs, norms inside of attention and MLP.

Rotary positions turn queries and keys of patches by their place in the grid. A window that is
resized to the grid gets the positions of the whole grid, as if it were an image; the tokens before
the patches have none.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from pipeline.kernels.blocks import (
    UNMARKED,
    Marks,
    all_tokens_after,
    class_row,
    class_token_after,
)


class EvaBlock(nn.Module):
    """A block with the rotary positions of the grid.

    Args:
        block: `EvaBlock` or `EvaBlockPostNorm` of timm.
        rotations: Sine and cosine of the patches, (grid * grid, 2 * width of a head); None for a
            model without rotary positions.
        norms_last: True where norms follow attention and MLP, as in `EvaBlockPostNorm`.
    """

    rotations: Tensor | None

    def __init__(self, block: Any, rotations: Tensor | None, norms_last: bool) -> None:
        super().__init__()
        self.block, self.norms_last = block, norms_last
        self.register_buffer("rotations", rotations)

    def forward(self, tokens: Tensor) -> Tensor:
        """Run the block for all tokens, (n, tokens, width)."""
        after: Tensor = self.block(tokens.to(self.dtype), rope=self.rotations)
        return after

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the block's products."""
        dtype: torch.dtype = self.block.attn.proj.weight.dtype
        return dtype

    def class_query(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the class token's query, and keys and values of all tokens.

        Args:
            tokens: Tokens as they enter attention, (n, tokens, width).

        Returns:
            (n, heads, 1, width of a head), and twice (n, heads, tokens, width of a head).
        """
        attention = self.block.attn
        query, key, value = (
            F.linear(part, weight, bias).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for part, (weight, bias) in zip(
                (tokens[:, :1], tokens, tokens), _projections(attention), strict=True
            )
        )
        query, key = attention.q_norm(query), attention.k_norm(key)
        if self.rotations is not None:
            first, patches = key.tensor_split([attention.num_prefix_tokens], dim=2)
            turned = apply_rot_embed_cat(patches, self.rotations, half=attention.rotate_half)
            key = torch.cat([first, turned], dim=2).type_as(value)
        return query, key, value


@all_tokens_after.register
def _all_tokens_after(block: EvaBlock, tokens: Tensor, marks: Marks = UNMARKED) -> Tensor:
    _refuse(marks)
    return block(tokens)  # type: ignore[no-any-return]


@class_token_after.register
def _class_token_after(block: EvaBlock, tokens: Tensor, marks: Marks = UNMARKED) -> Tensor:
    """Run the block with the class token's query alone."""
    _refuse(marks)
    inner, tokens = block.block, tokens.to(block.dtype)
    query, key, value = block.class_query(tokens if block.norms_last else inner.norm1(tokens))
    heads = F.scaled_dot_product_attention(query, key, value).flatten(1)
    token = tokens[:, 0]
    attended = inner.attn.proj(inner.attn.norm(heads))
    if block.norms_last:
        token = token + inner.norm1(attended)
        return token + inner.norm2(inner.mlp(token))  # type: ignore[no-any-return]
    token = token + _scaled(inner.gamma_1, attended)
    return token + _scaled(inner.gamma_2, inner.mlp(inner.norm2(token)))


@class_row.register
def _class_row(block: EvaBlock, tokens: Tensor) -> Tensor:
    tokens = tokens.to(block.dtype)
    query, key, _ = block.class_query(tokens if block.norms_last else block.block.norm1(tokens))
    logits = query.float() * query.shape[-1] ** -0.5 @ key.float().mT
    row: Tensor = logits.softmax(dim=-1)[:, :, 0].mean(dim=1)
    return row


def _projections(attention: Any) -> list[tuple[Tensor, Tensor | None]]:
    """Return weights and biases of queries, keys and values."""
    if attention.qkv is None:
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        return [(part.weight, part.bias) for part in parts]
    bias = attention.qkv.bias
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return list(zip(attention.qkv.weight.chunk(3), biases, strict=True))


def _scaled(gamma: Tensor | None, tokens: Tensor) -> Tensor:
    return tokens if gamma is None else gamma * tokens


def _refuse(marks: Marks) -> None:
    if not marks.empty:
        raise ValueError("a block of Eva has no place for the marks of a visual prompt")
