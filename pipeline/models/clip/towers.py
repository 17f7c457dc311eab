"""Towers of open_clip's models: its own ViT, and ViTs of timm, cut into stem, blocks and tail.

timm's plain blocks are those of open_clip under other names, so they run as these, with the same
weights: everything that is faster for open_clip's is for them too. Blocks of EVA run as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import AttentionPoolLatent, Mlp
from timm.models.eva import Eva, EvaBlockPostNorm
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from pipeline.core.errors import AbsError
from pipeline.kernels.eva import EvaBlock
from pipeline.kernels.pooling import AttentionPool, FirstToken, PatchMean, PlusMlp, Product, Tail
from pipeline.kernels.towers import Stem, Tower, class_token_tower
from pipeline.models.clip.plain_blocks import plain_block


def tower_of(visual: Any) -> Tower:
    """Cut the image encoder of an open_clip model; AbsError if it cannot be cut.

    The parts are those of the encoder, not copies, which is of no use by itself afterwards.
    """
    if isinstance(visual, TimmModel):
        return _timm_tower(visual)
    if not isinstance(visual, VisionTransformer) or visual.proj is None:
        raise AbsError("clip.model: needs a ViT whose pooled token is projected")
    blocks = visual.transformer.resblocks
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        raise AbsError("clip.model: needs a ViT of open_clip with plain blocks")
    if visual.attn_pool is None and visual.pool_type == "tok":
        return class_token_tower(visual)
    return Tower(Stem(visual), blocks, _tail(visual), 1)


def _tail(visual: VisionTransformer) -> Tail:
    """Return the tail of an open_clip ViT that pools by attention, as CoCa, or by the mean.

    Of CoCa's queries the first alone becomes the vector.
    """
    assert visual.proj is not None
    project = Product(visual.proj)
    if (pooler := visual.attn_pool) is not None:
        attention, width = pooler.attn, pooler.attn.embed_dim
        first = pooler.ln_q(pooler.query[:1])[0]
        query_weight, key, value_weight = _projections(attention)
        query = query_weight @ first + attention.in_proj_bias[:width]
        value = _linear(value_weight, attention.in_proj_bias[-width:])
        pool = AttentionPool(query, key, value, attention.out_proj, attention.num_heads)
        return Tail(pooler.ln_k, pool, nn.Sequential(visual.ln_post, project))
    if visual.pool_type != "avg":
        raise AbsError(f"clip.model: pools its tokens by pool_type {visual.pool_type!r}")
    if visual.final_ln_after_pool:
        return Tail(nn.Identity(), PatchMean(1), nn.Sequential(visual.ln_post, project))
    return Tail(visual.ln_post, PatchMean(1), project)


def _projections(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of queries, keys and values, whether stored as one or apart."""
    if attention._qkv_same_embed_dim:
        query, key, value = attention.in_proj_weight.chunk(3)
        return query, key, value
    return attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight


def _timm_tower(visual: Any) -> Tower:
    """Return the tower of a ViT of timm."""
    trunk = visual.trunk
    project = nn.Sequential(trunk.fc_norm, trunk.head, visual.head)
    prefix = trunk.num_prefix_tokens
    blocks = [_eva(trunk, b) if isinstance(trunk, Eva) else _plain(b) for b in trunk.blocks]
    return Tower(TimmStem(trunk), blocks, _timm_tail(trunk, project), prefix)


class TimmStem(nn.Module):
    """Part of a ViT of timm before its blocks."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        trunk.blocks = nn.ModuleList()

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the tokens that enter the first block."""
        tokens = self.trunk._pos_embed(self.trunk.patch_embed(pixels))
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        normed: Tensor = self.trunk.norm_pre(tokens)
        return normed


def _timm_tail(trunk: Any, project: nn.Module) -> Tail:
    """Return norm, pooling and head of a ViT of timm."""
    if trunk.attn_pool is not None:
        pool, mlp = _latent(trunk.attn_pool)
        return Tail(trunk.norm, pool, nn.Sequential(mlp, project))
    pools = {"token": FirstToken(), "avg": PatchMean(trunk.num_prefix_tokens)}
    if trunk.global_pool not in pools:
        raise AbsError(f"clip.model: pools the tokens of timm's ViT by {trunk.global_pool!r}")
    return Tail(trunk.norm, pools[trunk.global_pool], project)


def _latent(pool: AttentionPoolLatent) -> tuple[AttentionPool, PlusMlp]:
    """Return timm's attention pooling as its attention, with the query folded, and its MLP."""
    plain = (pool.q_norm, pool.k_norm, pool.proj_drop)
    if pool.latent_len != 1 or pool.pos_embed is not None or pool.mlp is None or not _none(*plain):
        raise AbsError("clip.model: pools its tokens by an attention of several queries or norms")
    (query,) = pool.q(pool.latent[0])
    key, value = pool.kv.weight.chunk(2)
    bias = torch.zeros(2 * len(key)) if pool.kv.bias is None else pool.kv.bias
    of_value = _linear(value, bias[len(key) :])
    folded = AttentionPool(query, key, of_value, pool.proj, pool.num_heads)
    return folded, PlusMlp(pool.norm, pool.mlp)


def _plain(block: Any) -> ResidualAttentionBlock:
    """Return a plain block of timm as one of open_clip, with the same weights."""
    attention, mlp = block.attn, block.mlp
    known = type(block) is Block and type(attention) is Attention and type(mlp) is Mlp
    if not known or not _none(attention.q_norm, attention.k_norm, attention.norm, mlp.norm):
        raise AbsError("clip.model: has blocks of timm that are no plain ones")
    same = plain_block(
        attention.num_heads,
        norms=(block.norm1, block.norm2),
        weight=attention.qkv.weight,
        bias=attention.qkv.bias,
        out=attention.proj,
        mlp=(mlp.fc1, mlp.act, mlp.fc2),
    )
    same.ls_1, same.ls_2 = block.ls1, block.ls2
    return same


def _eva(trunk: Any, block: Any) -> EvaBlock:
    """Return a block of EVA with the rotary positions of the grid."""
    if getattr(block.attn, "gate", None) is not None or getattr(trunk, "rope_mixed", False):
        raise AbsError("clip.model: has blocks of EVA with gates or learned rotary positions")
    attention = block.attn
    if getattr(attention, "q_bias", None) is not None:  # apart from the weights, in three parts
        biases = (attention.q_bias, attention.k_bias, attention.v_bias)
        attention.qkv.bias, attention.q_bias = nn.Parameter(torch.cat(biases).detach()), None
    rotations = trunk.rope.get_embed() if trunk.rope is not None else None
    return EvaBlock(block, rotations, isinstance(block, EvaBlockPostNorm))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer of its own with given weight and bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _none(*modules: nn.Module | None) -> bool:
    """Return whether modules change nothing in evaluation."""
    return all(isinstance(m, nn.Identity | nn.Dropout | None) for m in modules)
