"""Weights into a CLIP of open_clip, whichever of its generations wrote them."""

from __future__ import annotations

from typing import Any

from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from torch import Tensor


def fill(model: Any, tensors: dict[str, Tensor]) -> None:
    """Put `tensors` into `model`, all of them and nothing else; raises what torch raises.

    Names of open_clip's older layout are translated and positional embeddings of another length
    are resampled, as open_clip does on loading a file.
    """
    tensors = dict(tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        own = getattr(model, name, None)
        if name in tensors and own is not None:
            tensors[name] = tensors[name].reshape(own.shape)
    resize_pos_embed(tensors, model)
    resize_text_pos_embed(tensors, model)
    model.load_state_dict(tensors)
