"""One block of a ViT: whole, or for the class token alone.

Only the class token leaves the model, so of the last block only its query is needed: keys and
values still come from all tokens, and the result is the first row of the full block's output.
"""

from __future__ import annotations

from dataclasses import dataclass

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor


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


UNMARKED = Marks()


def all_tokens_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """The tokens that leave `block`: (n, tokens, width) to the same."""
    if marks.empty:
        whole: Tensor = block(tokens)
        return whole
    normed = _normed(block, tokens, marks)
    attended = block.attn(normed, normed, normed, need_weights=False)[0]
    attended[:, :1] = _attended_by_class(block, normed, marks)
    return _rest(block, tokens, attended)


def class_token_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """The class token that leaves `block`: (n, tokens, width) to (n, 1, width)."""
    normed = _normed(block, tokens, marks)
    return _rest(block, tokens[:, :1], _attended_by_class(block, normed, marks))


def _normed(block: ResidualAttentionBlock, tokens: Tensor, marks: Marks) -> Tensor:
    normed: Tensor = block.ln_1(tokens)
    return normed if marks.gain is None else normed * marks.gain[..., None].to(normed)


def _attended_by_class(block: ResidualAttentionBlock, normed: Tensor, marks: Marks) -> Tensor:
    mask = None
    if marks.bias is not None:
        heads = block.attn.num_heads
        mask = marks.bias.to(normed).repeat_interleave(heads, dim=0)[:, None]
    attended: Tensor = block.attn(
        normed[:, :1], normed, normed, attn_mask=mask, need_weights=False
    )[0]
    return attended


def _rest(block: ResidualAttentionBlock, tokens: Tensor, attended: Tensor) -> Tensor:
    tokens = tokens + block.ls_1(attended)
    moved: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return moved
