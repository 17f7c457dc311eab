"""Text encoders of transformers' models, from their parts.

The parts are called instead of the models' own methods: these return another type in transformers 5
than before, and that of BLIP-2 drops the first 32 tokens of every text where the checkpoint's
configuration has an `image_token_index`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """A text encoder.

    Args:
        model: Model of one of `families.FAMILIES`.
        kind: Its `model_type`.
        pad: Token of the padding, which no token attends to; None where texts are read up to their
            first end.
    """

    def __init__(self, model: Any, kind: str, pad: int | None) -> None:
        super().__init__()
        self.model, self.kind, self.pad = model, kind, pad

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute embeddings, not normalised: int64 (n, tokens) to (n, dim)."""
        if self.pad is None:
            return ENCODERS[self.kind](self.model, tokens, None)
        mask = tokens != self.pad
        longest = int(mask.sum(dim=1).max())
        return ENCODERS[self.kind](self.model, tokens[:, :longest], mask[:, :longest].long())


def _first_token(model: Any, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Project the first token that leaves the encoder (ALIGN, AltCLIP)."""
    states = model.text_model(input_ids=tokens, attention_mask=mask)[0]
    projected: Tensor = model.text_projection(states[:, 0])
    return projected


def _first_end(model: Any, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Project the first end token, the largest of CLIP's vocabulary (GroupViT)."""
    states = model.text_model(input_ids=tokens)[0]
    ends = (tokens == tokens.amax(dim=1, keepdim=True)).int().argmax(dim=1)
    projected: Tensor = model.text_projection(states[torch.arange(len(states)), ends])
    return projected


def _former(model: Any, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Project the first token that leaves the Q-Former, which reads the text alone (BLIP-2)."""
    embedded = model.embeddings(input_ids=tokens)
    states = model.qformer(query_embeds=embedded, query_length=0, attention_mask=mask)[0]
    dtype = model.text_projection.weight.dtype  # the Q-Former stays in float32
    projected: Tensor = model.text_projection(states[:, 0].to(dtype))
    return projected


ENCODERS: dict[str, Callable[[Any, Tensor, Tensor | None], Tensor]] = {
    "align": _first_token,
    "altclip": _first_token,
    "groupvit": _first_end,
    "blip-2": _former,
}
"""Functions that encode texts, by `model_type`."""
