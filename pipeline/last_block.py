"""The last block of a ViT, for the class token alone.

Only the class token leaves the model, so only its query is needed: keys and values still come
from all tokens, and the result is the first row of the full block's output.
"""

from __future__ import annotations

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor


def class_token_after(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """The class token that leaves `block`: (n, tokens, width) to (n, 1, width)."""
    normed, class_token = block.ln_1(tokens), tokens[:, :1]
    attended = block.attn(normed[:, :1], normed, normed, need_weights=False)[0]
    class_token = class_token + block.ls_1(attended)
    moved: Tensor = class_token + block.ls_2(block.mlp(block.ln_2(class_token)))
    return moved
