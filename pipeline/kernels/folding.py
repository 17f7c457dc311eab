"""The class token's attention, with keys and values never made.

For one query, q . (W_k x + b_k) is x . (W_k' q) plus a number that is the same for all tokens x,
which the softmax takes away. As its weights sum to 1, the mean of W_v x + b_v is W_v of the mean
of x, plus b_v. So two products of all tokens with matrices of width by width become two with width
by heads. Equal to the first row of the full attention but for rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def folded_query(attention: nn.MultiheadAttention, first: Tensor) -> Tensor:
    """W_k' q of each head, scaled: class tokens (n, width) to (n, heads, width)."""
    query, key, _ = _by_head(attention)
    bias = attention.in_proj_bias[: attention.embed_dim].unflatten(0, query.shape[:2])
    q = torch.einsum("nk,hdk->nhd", first, query) + bias
    return torch.einsum("nhd,hdk->nhk", q * query.shape[1] ** -0.5, key)


def attention_of(folded: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax over tokens: (n, heads, width) and (n, tokens, width) to (n, heads, tokens).

    bias: (n, tokens), added to the logits. Never coarser than float32.
    """
    logits = folded @ tokens.transpose(1, 2)
    if bias is not None:
        logits = logits + bias[:, None].to(logits)
    return logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def attended(attention: nn.MultiheadAttention, pooled: Tensor) -> Tensor:
    """What the block adds to the class token: weighted means of tokens by head, (n, heads, width),
    to (n, width)."""
    _, _, value = _by_head(attention)
    bias = attention.in_proj_bias[-attention.embed_dim :]
    heads = torch.einsum("nhk,hdk->nhd", pooled, value).flatten(1) + bias
    projected: Tensor = attention.out_proj(heads)
    return projected


def _by_head(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of queries, keys and values, each (heads, width of a head, width)."""
    query, key, value = (
        part.unflatten(0, (attention.num_heads, -1)) for part in attention.in_proj_weight.chunk(3)
    )
    return query, key, value
