"""Image encoders of transformers' models, cut into stem, blocks and tail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from pipeline.core.errors import AbsError
from pipeline.kernels.maps import MapBlock
from pipeline.kernels.pooling import FirstToken, PatchMean, Tail
from pipeline.kernels.towers import Tower
from pipeline.models.clip.dimensions import Vision
from pipeline.models.clip.plain_blocks import plain_block

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
}
"""Activations of plain blocks, by transformers' names."""


def tower_of(model: Any, kind: str, vision: Vision) -> Tower:
    """Cut the image encoder of a model of transformers.

    Args:
        model: Model of one of `families.FAMILIES`. Its parts become those of the tower.
        kind: Its `model_type`.
        vision: Dimensions of its image encoder.
    """
    return TOWERS[kind](model, vision)


def _altclip(model: Any, vision: Vision) -> Tower:
    encoder = model.vision_model
    stem = nn.Sequential(encoder.embeddings, encoder.pre_layrnorm)
    tail = Tail(encoder.post_layernorm, FirstToken(), model.visual_projection)
    return Tower(stem, _blocks(encoder.encoder.layers, encoder.config), tail, vision.prefix)


def _blip2(model: Any, vision: Vision) -> Tower:
    encoder = model.vision_model
    pool = Queries(model.qformer, model.query_tokens)
    tail = Tail(encoder.post_layernorm, pool, model.vision_projection)
    blocks = _blocks(encoder.encoder.layers, encoder.config)
    return Tower(encoder.embeddings, blocks, tail, vision.prefix)


def _groupvit(model: Any, vision: Vision) -> Tower:
    encoder = model.vision_model
    first, *others = encoder.encoder.stages
    tail = Tail(
        nn.Identity(),
        Segments(first.downsample, others, encoder.layernorm, vision.prefix),
        model.visual_projection,
    )
    stem = GroupStem(encoder.embeddings, first.group_token)
    return Tower(stem, _blocks(first.layers, encoder.config), tail, vision.prefix)


def _align(model: Any, vision: Vision) -> Tower:
    encoder = model.vision_model
    blocks = list(encoder.encoder.blocks)
    before, behind = blocks[: -vision.layers], blocks[-vision.layers :]
    stem = MapStem(nn.Sequential(encoder.embeddings, *before))
    return Tower(stem, map(MapBlock, behind), Tail(nn.Identity(), PatchMean(0), nn.Identity()), 0)


TOWERS: dict[str, Callable[[Any, Vision], Tower]] = {
    "align": _align,
    "altclip": _altclip,
    "groupvit": _groupvit,
    "blip-2": _blip2,
}
"""Functions that cut a model, by its `model_type`."""


def _blocks(layers: Any, config: Any) -> list[nn.Module]:
    """Return the blocks of a ViT of transformers as those of open_clip, with the same weights."""
    if config.hidden_act not in ACTIVATIONS:
        raise AbsError(f"clip.model: has the activation {config.hidden_act!r} in its image encoder")
    return [_block(layer, config.num_attention_heads, config.hidden_act) for layer in layers]


def _block(layer: Any, heads: int, activation: str) -> nn.Module:
    attention, mlp = layer.self_attn, layer.mlp
    fused = getattr(attention, "qkv", None)
    parts = [fused] if fused else [attention.q_proj, attention.k_proj, attention.v_proj]
    block: nn.Module = plain_block(
        heads,
        norms=(layer.layer_norm1, layer.layer_norm2),
        weight=torch.cat([part.weight for part in parts]).detach(),
        bias=None if parts[0].bias is None else torch.cat([part.bias for part in parts]).detach(),
        out=attention.projection if fused else attention.out_proj,
        mlp=(mlp.fc1, ACTIVATIONS[activation](), mlp.fc2),
    )
    return block


class MapStem(nn.Module):
    """Part of a convolutional encoder before the blocks that windows enter."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the places of the map that enters the first block, by row."""
        tokens: Tensor = self.layers(pixels).flatten(2).mT
        return tokens


class GroupStem(nn.Module):
    """Part of GroupViT before its blocks: patches behind the group tokens of the first stage.

    transformers has the group tokens last; attention does not depend on the order of tokens.
    """

    def __init__(self, embeddings: nn.Module, groups: nn.Parameter) -> None:
        super().__init__()
        self.embeddings, self.groups = embeddings, groups

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the tokens that enter the first block."""
        patches = self.embeddings(pixels)
        return torch.cat([self.groups.expand(len(patches), -1, -1), patches], dim=1)


class Segments(nn.Module):
    """Pooling by the mean of segments, which the further stages of GroupViT make of the patches.

    Each patch is assigned to one segment, the most similar one, so that vectors jump where two are
    about as similar.
    """

    def __init__(self, assign: nn.Module, stages: Any, norm: nn.Module, prefix: int) -> None:
        super().__init__()
        self.assign, self.stages, self.norm = assign, nn.ModuleList(stages), norm
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """Group the patches: (n, tokens, width) to (n, width)."""
        groups, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        segments, _ = self.assign(patches, groups)
        for stage in self.stages:
            segments, groups = stage(segments, groups)[:2]
        mean: Tensor = self.norm(segments).mean(dim=1)
        return mean


class Queries(nn.Module):
    """Several queries that read all tokens through a Q-Former (BLIP-2)."""

    def __init__(self, former: nn.Module, queries: nn.Parameter) -> None:
        super().__init__()
        self.former, self.queries = former, queries

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute what each query has read: (n, tokens, width) to (n, queries, inner width)."""
        queries = self.queries.expand(len(tokens), -1, -1)
        read: Tensor = self.former(query_embeds=queries, encoder_hidden_states=tokens)[0]
        return read
