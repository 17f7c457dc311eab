"""One block of CLIP's image encoder, for all tokens or for the class token alone.

Weights are those of open_clip's `ResidualAttentionBlock`; the block is computed here, with fused
attention on views of one product, and with residual sums in place. Only the class token leaves the
encoder, so the last block needs only its query; keys and values are folded away
(`pipeline.kernels.folding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerScale, QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from pipeline.kernels import folding

QUICK = 1.702
"""Factor within QuickGELU."""
HELD = 1 << 25
"""Most bytes of hidden tokens at once on a CPU. For a larger piece of memory, the C library asks
the system each time, which fills its pages with zeros.
"""


@dataclass(frozen=True)
class Marks:
    """Changes that a visual prompt makes inside a layer, for n sequences; None for no change."""

    gain: Tensor | None = None
    """Factor on the normalised tokens that attention reads, (n, tokens)."""
    bias: Tensor | None = None
    """Term added to the logits of the class token's attention, or a pooling's, (n, tokens)."""

    @property
    def empty(self) -> bool:
        """True if nothing is changed."""
        return self.gain is None and self.bias is None


UNMARKED = Marks()
"""Marks that change nothing."""


def fold(block: ResidualAttentionBlock) -> None:
    """Fold QuickGELU's factor and layer scale into a block's weights, in place.

    QuickGELU is x * sigmoid(a * x) with a = 1.702, which is SiLU(a * x) / a: SiLU is one pass over
    the hidden tokens, and both factors go into the products around it. The block computes the same
    function up to rounding; a block without them stays as it is.
    """
    mlp = block.mlp
    with torch.no_grad():
        if isinstance(mlp.gelu, QuickGELU):
            for hidden in (mlp.c_fc.weight, mlp.c_fc.bias):
                hidden.mul_(QUICK)
            mlp.c_proj.weight.div_(QUICK)
            mlp.gelu = nn.SiLU(inplace=True)
        for name, product in (("ls_1", block.attn.out_proj), ("ls_2", mlp.c_proj)):
            scale = getattr(block, name)
            if isinstance(scale, LayerScale):
                product.weight.mul_(scale.gamma[:, None])
                product.bias.mul_(scale.gamma)
                setattr(block, name, nn.Identity())


def linear(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute tokens W' + b: (n, ..., width) to (n, ..., outputs).

    On a CPU this is a convolution over single tokens, since torch hands convolutions to oneDNN in
    every precision it has, and oneDNN adds the bias within the product. Other products go to the
    BLAS library in float32, and fill the result with the bias first. Without a dilation, which
    changes nothing about single tokens, torch keeps batches below 16 from oneDNN in float32 where
    it has one thread.
    """
    if not _has_convolutions(tokens):
        return F.linear(tokens, weight, bias)
    pixels = tokens.reshape(len(tokens), -1, 1, tokens.shape[-1]).permute(0, 3, 1, 2)
    products = F.conv2d(pixels, weight[:, :, None, None], bias, dilation=2).permute(0, 2, 3, 1)
    return products.reshape(*tokens.shape[:-1], -1)


def _has_convolutions(tokens: Tensor) -> bool:
    """Return whether oneDNN convolves tokens of this device and dtype."""
    known = tokens.dtype in (torch.float32, torch.bfloat16)
    return known and tokens.device.type == "cpu" and torch.backends.mkldnn.is_available()


def norm(layer: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Apply a norm in float32 or finer; the result has the dtype of the tokens.

    On a CPU, torch takes tokens of half precision beside weights in float32. Elsewhere the layer
    itself converts the tokens and back.
    """
    if tokens.device.type != "cpu":
        return layer(tokens)  # type: ignore[no-any-return]
    return F.layer_norm(tokens, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


@singledispatch
def all_tokens_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """Run a block for all tokens.

    Args:
        block: Block of an open_clip ViT; another kind registers its own function.
        tokens: Tokens that enter it, (n, tokens, width), the class token first; not changed.
        marks: Changes of a visual prompt.

    Returns:
        Tokens that leave the block, (n, tokens, width), in its dtype.
    """
    tokens = in_dtype_of(block, tokens)
    return after_attention(block, tokens, _attended(block, _normed(block, tokens, marks), marks))


@singledispatch
def class_token_after(
    block: ResidualAttentionBlock, tokens: Tensor, marks: Marks = UNMARKED
) -> Tensor:
    """Run a block for the class token alone.

    Args:
        block: Block of an open_clip ViT; another kind registers its own function.
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
    tokens, mlp = tokens + block.ls_1(attended), block.mlp
    for some in tokens.split(_at_once(tokens, len(mlp.c_fc.weight))):
        hidden = mlp.gelu(linear(norm(block.ln_2, some), mlp.c_fc.weight, mlp.c_fc.bias))
        some.add_(block.ls_2(linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias)))
    return tokens


def _at_once(tokens: Tensor, width: int) -> int:
    """Return how many sequences have hidden tokens of a width at once: all, but on a CPU."""
    if tokens.device.type != "cpu":
        return len(tokens)
    hidden = tokens.nbytes // tokens.shape[-1] * width
    return -(-len(tokens) // max(1, -(-hidden // HELD)))


@singledispatch
def class_row(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Compute the class token's attention in a block, as the mean over heads.

    Args:
        block: Block of an open_clip ViT; another kind registers its own function.
        tokens: Tokens that enter it, (n, tokens, width), the class token first.

    Returns:
        float32 (n, tokens).
    """
    normed = norm(block.ln_1, in_dtype_of(block, tokens))
    folded = folding.folded_query(block.attn, normed[:, 0])
    return folding.attention_of(folded, normed).mean(dim=1).float()


def in_dtype_of(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Convert tokens to the dtype of a block's attention weights; blocks may differ in it."""
    return tokens.to(block.attn.in_proj_weight.dtype)


def _normed(block: ResidualAttentionBlock, tokens: Tensor, marks: Marks) -> Tensor:
    """Apply the block's first norm, and the gain of the marks."""
    normed = norm(block.ln_1, tokens)
    return normed if marks.gain is None else normed * marks.gain[..., None].to(normed)


def _attended(block: ResidualAttentionBlock, normed: Tensor, marks: Marks) -> Tensor:
    """Compute the output of attention at all tokens, (n, tokens, width)."""
    attention = block.attn
    products = linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    by_head = products.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key, value = by_head.unbind()
    heads = F.scaled_dot_product_attention(query, key, value, attn_mask=_mask(normed, marks))
    joined = heads.transpose(1, 2).flatten(2)
    return linear(joined, attention.out_proj.weight, attention.out_proj.bias)


def _mask(normed: Tensor, marks: Marks) -> Tensor | None:
    """Build the term that the marks add to attention logits: their bias in the class token's row,
    (n, 1, tokens, tokens); None for no term.
    """
    if marks.bias is None:
        return None
    count, length, _ = normed.shape
    mask = normed.new_zeros(count, 1, length, length)
    mask[:, 0, 0] = marks.bias.to(mask)
    return mask


def _attended_by_class(block: ResidualAttentionBlock, normed: Tensor, marks: Marks) -> Tensor:
    """Compute the output of attention at the class token, (n, width)."""
    folded = folding.folded_query(block.attn, normed[:, 0])
    weights = folding.attention_of(folded, normed, marks.bias).to(normed.dtype)
    return folding.attended(block.attn, weights @ normed)
