"""How the tokens that leave a ViT's last block become the vector of the image.

Three ways are in use: the class token alone, the mean of the patches, and an attention over all
tokens by one constant query. The last folds as the attention of a class token does
(`pipeline.kernels.folding`), and more simply, since its query is the same for every image: W_k' q
is one vector a head, made once.

That attention is a layer which windows of an image can enter, since the softmax over some of the
tokens is defined without any resizing: logits and values are those of the image, made once for all
of its windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.kernels.blocks import UNMARKED, Marks


class Tail(nn.Module):
    """Norm, pooling, and all behind it, up to the embedding.

    Args:
        norm: Applied to every token.
        pool: `FirstToken`, `PatchMean` or `AttentionPool`.
        project: Applied to the pooled token, (n, width) to (n, dim).
    """

    def __init__(self, norm: nn.Module, pool: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.norm, self.pool, self.project = norm, pool, project

    @property
    def reads_class_token_only(self) -> bool:
        """True if other tokens play no part after the last block."""
        return isinstance(self.pool, FirstToken)

    @property
    def attends(self) -> bool:
        """True if the pooling is an attention, which windows can enter."""
        return isinstance(self.pool, AttentionPool)

    def forward(self, tokens: Tensor, marks: Marks = UNMARKED) -> Tensor:
        """Compute embeddings, not normalised: (n, tokens, width) to (n, dim).

        Args:
            tokens: Tokens that leave the last block, (n, tokens, width).
            marks: Changes of a visual prompt, for a pooling by attention only.
        """
        normed = self.norm(tokens)
        if marks.gain is not None:
            normed = normed * marks.gain[..., None].to(normed)
        pooled = self.pool(normed) if marks.bias is None else self.pool(normed, marks.bias)
        embeddings: Tensor = self.project(pooled)
        return embeddings

    def of_parts(self, tokens: Tensor, parts: Tensor) -> Tensor:
        """Compute embeddings of parts of images, by a pooling by attention over these tokens alone.

        Args:
            tokens: Tokens that leave the last block, (images, tokens, width).
            parts: True for the tokens of each part, bool (images, n, tokens).

        Returns:
            (images, n, dim), not normalised, in the dtype of the tail.
        """
        assert isinstance(self.pool, AttentionPool)
        normed = self.norm(tokens.to(self.pool.folded.dtype))
        embeddings: Tensor = self.project(self.pool.of_parts(normed, parts))
        return embeddings


class FirstToken(nn.Module):
    """Pooling by the class token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the first token: (n, tokens, width) to (n, width)."""
        return tokens[:, 0]


class PatchMean(nn.Module):
    """Pooling by the mean of the patches; holds the number of tokens before them."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean of the patches: (n, tokens, width) to (n, width)."""
        return tokens[:, self.prefix :].mean(dim=1)


class AttentionPool(nn.Module):
    """Pooling by multi-head attention of one constant query over all tokens, keys folded away.

    The bias of the keys adds the same number to all logits of a head, so it plays no part.

    Args:
        query: The query after its projection, (heads * width of a head).
        key: Weights of the keys, (heads * width of a head, width).
        value: Projection of the values, with weights of the shape of `key`.
        out: Output projection.
        heads: Number of heads.
    """

    folded: Tensor

    def __init__(
        self, query: Tensor, key: Tensor, value: nn.Linear, out: nn.Linear, heads: int
    ) -> None:
        super().__init__()
        self.value, self.out, self.heads = value, out, heads
        with torch.no_grad():
            by_head, keys = query.unflatten(0, (heads, -1)), key.unflatten(0, (heads, -1))
            scaled = by_head.double() * by_head.shape[1] ** -0.5
            folded = torch.einsum("hd,hdk->hk", scaled, keys.double()).to(key.dtype)
        self.register_buffer("folded", folded)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute the output of attention: (n, tokens, width) to (n, outputs).

        Args:
            tokens: Normalised tokens.
            bias: Term added to the logits of all heads, (n, tokens).
        """
        logits = tokens @ self.folded.T
        logits = logits if bias is None else logits + bias[..., None].to(logits)
        pooled = _softmax(logits, dim=1).mT @ tokens
        values = self.value.weight.unflatten(0, (self.heads, -1))
        attended = torch.einsum("nhk,hdk->nhd", pooled, values).flatten(1)
        projected: Tensor = self.out(attended + self.value.bias)
        return projected

    def of_parts(self, tokens: Tensor, parts: Tensor) -> Tensor:
        """Compute the output of attention over parts of images.

        Args:
            tokens: Normalised tokens of images, (images, tokens, width).
            parts: True for the tokens of each part, bool (images, n, tokens).

        Returns:
            (images, n, outputs).
        """
        logits = (tokens @ self.folded.T).mT[:, :, None]
        weights = _softmax(logits.masked_fill(~parts[:, None], -torch.inf), dim=-1)
        values = self.value(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        attended = (weights @ values).transpose(1, 2).flatten(2)
        projected: Tensor = self.out(attended)
        return projected


def _softmax(logits: Tensor, dim: int) -> Tensor:
    """Compute a softmax in float32 or finer; the result has the dtype of the logits."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    return logits.softmax(dim=dim, dtype=exact).to(logits)


class Product(nn.Module):
    """Product with a matrix from the right; holds the matrix, (width, dim)."""

    def __init__(self, matrix: nn.Parameter) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, vectors: Tensor) -> Tensor:
        """Multiply: (n, width) to (n, dim)."""
        return vectors @ self.matrix


class PlusMlp(nn.Module):
    """Residual sum of a token and an MLP over its norm."""

    def __init__(self, norm: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm, self.mlp = norm, mlp

    def forward(self, vectors: Tensor) -> Tensor:
        """Add the MLP: (n, width) to (n, width)."""
        total: Tensor = vectors + self.mlp(self.norm(vectors))
        return total
