"""One block of a ViT: whole, or for the class token alone.

Only the class token leaves the model, so of the last block only its query is needed, and keys and
values are folded away.
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
    """What a visual prompt changes inside a block; None for nothing. Both (n, tokens)."""

    gain: Tensor | None = None
    """Factor on the normalised tokens that attention reads."""
    bias: Tensor | None = None
    """Added to the class token's attention logits."""

    @property
    def empty(self) -> bool:
        """Whether nothing is changed."""
        return self.gain is None and self.bias is None

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        """Those of several sequences; either all of them have one, or none."""
        gains = [part.gain for part in parts if part.gain is not None]
        biases = [part.bias for part in parts if part.bias is not None]
        return cls(torch.cat(gains) if gains else None, torch.cat(biases) if biases else None)


UNMARKED = Marks()


def all_tokens_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """The tokens that leave `block`: (n, tokens, width) to the same."""
    tokens = in_dtype_of(block, tokens)
    if marks.empty:
        whole: Tensor = block(tokens)
        return whole
    normed = _normed(block, tokens, marks)
    attended = block.attn(normed, normed, normed, need_weights=False)[0]
    attended[:, 0] = _attended_by_class(block, normed, marks)
    return after_attention(block, tokens, attended)


def class_token_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """The class token that leaves `block`: (n, tokens, width) to (n, width)."""
    tokens = in_dtype_of(block, tokens)
    normed = _normed(block, tokens, marks)
    return after_attention(block, tokens[:, 0], _attended_by_class(block, normed, marks))


def after_attention(block: ResidualAttentionBlock, tokens: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block: tokens that entered it and what its attention adds, of one shape."""
    tokens = tokens + block.ls_1(attended)
    moved: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return moved


def in_dtype_of(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """A block works in the dtype of its products, whatever the one before it did."""
    return tokens.to(block.attn.in_proj_weight.dtype)


def _normed(block: ResidualAttentionBlock, tokens: Tensor, marks: Marks) -> Tensor:
    normed: Tensor = block.ln_1(tokens)
    return normed if marks.gain is None else normed * marks.gain[..., None].to(normed)


def _attended_by_class(block: ResidualAttentionBlock, normed: Tensor, marks: Marks) -> Tensor:
    """What attention adds to the class token: (n, width)."""
    folded = folding.folded_query(block.attn, normed[:, 0])
    weights = folding.attention_of(folded, normed, marks.bias).to(normed.dtype)
    return folding.attended(block.attn, weights @ normed)
