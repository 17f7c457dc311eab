"""Load weights into a CLIP of open_clip, whichever generation of open_clip wrote them."""

from __future__ import annotations

from typing import Any

from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from torch import Tensor


def fill(model: Any, tensors: dict[str, Tensor]) -> None:
    """Load all of `tensors`, and nothing else, into a model; torch raises if they do not match.

    Names of open_clip's older layout are translated and positional embeddings of another length are
    resampled, as open_clip does on loading a file.
    """
    tensors = dict(tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        parameter = getattr(model, name, None)
        if name in tensors and parameter is not None:
            tensors[name] = tensors[name].reshape(parameter.shape)
    resize_pos_embed(tensors, model)
    resize_text_pos_embed(tensors, model)
    model.load_state_dict(tensors)
