"""One block of CLIP's image encoder, for all tokens or for the class token alone.

Only the class token leaves the encoder, so the last block needs only its query; keys and values are
folded away (`pipeline.kernels.folding`). All blocks are open_clip's `ResidualAttentionBlock`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from pipeline.kernels import folding


@dataclass(frozen=True)
class Marks:
    """Changes that a visual prompt makes inside a block, for n sequences; None for no change."""

    gain: Tensor | None = None
    """Factor on the normalised tokens that attention reads, (n, tokens)."""
    bias: Tensor | None = None
    """Term added to the class token's attention logits, (n, tokens)."""

    @property
    def empty(self) -> bool:
        """True if nothing is changed."""
        return self.gain is None and self.bias is None

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        """Concatenate the marks of several sequences; a gain, and a bias, is in all of them or in
        none.
        """
        gains = [part.gain for part in parts if part.gain is not None]
        biases = [part.bias for part in parts if part.bias is not None]
        return cls(torch.cat(gains) if gains else None, torch.cat(biases) if biases else None)


UNMARKED = Marks()
"""Marks that change nothing."""


def all_tokens_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """Run a block for all tokens.

    Args:
        block: Block of an open_clip ViT.
        tokens: Tokens that enter it, (n, tokens, width), the class token first.
        marks: Changes of a visual prompt.

    Returns:
        Tokens that leave the block, (n, tokens, width), in its dtype.
    """
    tokens = in_dtype_of(block, tokens)
    if marks.empty:
        result: Tensor = block(tokens)
        return result
    normed = _normed(block, tokens, marks)
    attended = block.attn(normed, normed, normed, need_weights=False)[0]
    attended[:, 0] = _attended_by_class(block, normed, marks)
    return after_attention(block, tokens, attended)


def class_token_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """Run a block for the class token alone.

    Args:
        block: Block of an open_clip ViT.
        tokens: Tokens that enter it, (n, tokens, width), the class token first.
        marks: Changes of a visual prompt.

    Returns:
        Class token that leaves the block, (n, width), in its dtype.
    """
    tokens = in_dtype_of(block, tokens)
    normed = _normed(block, tokens, marks)
    return after_attention(block, tokens[:, 0], _attended_by_class(block, normed, marks))


def after_attention(block: ResidualAttentionBlock, tokens: Tensor, attended: Tensor) -> Tensor:
    """Run the rest of a block: first residual sum, norm, MLP and second residual sum.

    Args:
        block: Block of an open_clip ViT.
        tokens: Tokens that entered the block, (..., width).
        attended: Output of its attention, of the same shape.

    Returns:
        Tokens that leave the block, of the same shape.
    """
    tokens = tokens + block.ls_1(attended)
    result: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return result


def in_dtype_of(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Convert tokens to the dtype of a block's attention weights; blocks may differ in it."""
    return tokens.to(block.attn.in_proj_weight.dtype)


def _normed(block: ResidualAttentionBlock, tokens: Tensor, marks: Marks) -> Tensor:
    """Apply the block's first norm, and the gain of the marks."""
    normed: Tensor = block.ln_1(tokens)
    return normed if marks.gain is None else normed * marks.gain[..., None].to(normed)


def _attended_by_class(block: ResidualAttentionBlock, normed: Tensor, marks: Marks) -> Tensor:
    """Compute the output of attention at the class token, (n, width)."""
    folded = folding.folded_query(block.attn, normed[:, 0])
    weights = folding.attention_of(folded, normed, marks.bias).to(normed.dtype)
    return folding.attended(block.attn, weights @ normed)
