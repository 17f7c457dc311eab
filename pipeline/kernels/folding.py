"""Attention of the class token without computing keys and values.

For one query q, q . (W_k x + b_k) equals x . (W_k' q) plus a number that is the same for all tokens
x and cancels in the softmax. As its weights sum to 1, the mean of W_v x + b_v is W_v of the mean of
x, plus b_v. Two products of all tokens with (width, width) matrices thus become two with (width,
heads). The result equals the first row of full attention up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def folded_query(attention: nn.MultiheadAttention, first: Tensor) -> Tensor:
    """Compute W_k' q of each head, with attention's scale.

    Args:
        attention: Attention of a block, with `in_proj_weight` and `in_proj_bias`.
        first: Normalised class tokens, (n, width).

    Returns:
        (n, heads, width).
    """
    query, key, _ = _by_head(attention)
    bias = attention.in_proj_bias[: attention.embed_dim].unflatten(0, query.shape[:2])
    q = torch.einsum("nk,hdk->nhd", first, query) + bias
    return torch.einsum("nhd,hdk->nhk", q * query.shape[1] ** -0.5, key)


def attention_of(folded: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute attention weights of the class token, in float32 or finer.

    Args:
        folded: Folded queries, (n, heads, width), as returned by `folded_query`.
        tokens: Normalised tokens, (n, tokens, width).
        bias: Term added to the logits of every head, (n, tokens).

    Returns:
        Softmax over tokens, (n, heads, tokens).
    """
    logits = folded @ tokens.transpose(1, 2)
    if bias is not None:
        logits = logits + bias[:, None].to(logits)
    return logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def attended(attention: nn.MultiheadAttention, pooled: Tensor) -> Tensor:
    """Compute the output of attention at the class token.

    Args:
        attention: Attention of a block.
        pooled: Means of the normalised tokens by each head's attention weights, (n, heads, width).

    Returns:
        (n, width).
    """
    _, _, value = _by_head(attention)
    bias = attention.in_proj_bias[-attention.embed_dim :]
    heads = torch.einsum("nhk,hdk->nhd", pooled, value).flatten(1) + bias
    projected: Tensor = attention.out_proj(heads)
    return projected


def _by_head(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of queries, keys and values, each (heads, width of a head, width)."""
    query, key, value = (
        part.unflatten(0, (attention.num_heads, -1)) for part in attention.in_proj_weight.chunk(3)
    )
    return query, key, value
