"""Load weights into a CLIP of open_clip, whichever generation of open_clip wrote them."""

from __future__ import annotations

import re
from typing import Any

import torch
from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from torch import Tensor

TRANSFORMERS = {
    "text_model.embeddings.token_embedding.": "token_embedding.",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_model.final_layer_norm.": "ln_final.",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.": "visual.conv1.",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "visual_projection.weight": "visual.proj",
}
"""Beginnings of the names of transformers' CLIPModel, and of open_clip's CLIP."""

BLOCK = {
    "self_attn.": "attn.",
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
}
"""Parts of a block, by their names in transformers and in open_clip."""

POSITIONS = "embeddings.position_ids"
"""End of the name of a buffer that older versions of transformers stored."""

TRANSPOSED = ("text_projection.weight", "visual_projection.weight")
"""Weights of transformers that multiply from the other side."""


def fill(model: Any, tensors: dict[str, Tensor]) -> None:
    """Load all of `tensors`, and nothing else, into a model; torch raises if they do not match.

    Names of open_clip's older layout are translated and positional embeddings of another length are
    resampled, as open_clip does on loading a file.
    """
    tensors = _from_transformers(tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        parameter = getattr(model, name, None)
        if name in tensors and parameter is not None:
            tensors[name] = tensors[name].reshape(parameter.shape)
    tensors = {name: value for name, value in tensors.items() if not name.endswith(POSITIONS)}
    resize_pos_embed(tensors, model)
    resize_text_pos_embed(tensors, model)
    model.load_state_dict(tensors)


def _from_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of open_clip's CLIP, where transformers wrote them."""
    if not any(name.startswith("vision_model.") for name in tensors):
        return dict(tensors)
    kept = {n: t for n, t in tensors.items() if not n.endswith(".embeddings.position_ids")}
    renamed = {_renamed(n): t.T if n in TRANSPOSED else t for n, t in kept.items()}
    for name in [name for name in renamed if ".q_proj." in name]:
        parts = [renamed.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        renamed[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return renamed


def _renamed(name: str) -> str:
    """Return open_clip's name of a tensor of transformers' CLIPModel."""
    for before, after in TRANSFORMERS.items():
        if name.startswith(before):
            name = after + name.removeprefix(before)
    for before, after in BLOCK.items():
        name = re.sub(rf"(\.resblocks\.[0-9]+\.){re.escape(before)}", rf"\1{after}", name)
    return name
