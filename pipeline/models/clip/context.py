"""CLIP's text encoder with a context that can be learned: the first words of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from pipeline.core.errors import AbsError
from pipeline.core.runtime import Runtime
from pipeline.models.clip.model import build
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.tokenizer import Tokenizer
from pipeline.models.device import device_of

BEHIND = 1 + 4
"""Place behind the context in a prompt: after its start and four words."""


class ContextEncoder:
    """Text encoder whose prompts begin with the same four words, in float32.

    Args:
        source: CLIP with a text encoder of its own (`learns_context`).
        runtime: Device.
        prompts: A prompt of each class.

    Raises:
        AbsError: If prompts begin differently.
    """

    def __init__(self, source: ClipSource, runtime: Runtime, prompts: Sequence[str]) -> None:
        model = build(source).model
        self._device = device_of(runtime)
        self._model = model.to(self._device).float().eval().requires_grad_(False)
        tokens = Tokenizer.of(source.resolved).loaded(list(prompts)).to(self._device)
        self._tokens = tokens[:, : self._length(tokens)]
        if (self._tokens[:, :BEHIND] != self._tokens[0, :BEHIND]).any():
            raise AbsError(
                "descriptions.clip: a context can be learned where all prompts begin with the same "
                'four words, such as "a photo of a"'
            )
        self._embedded: Tensor = self._model.token_embedding(self._tokens)

    def _length(self, tokens: Tensor) -> int:
        """Return the number of tokens up to the last one that is read: a token that sees none of
        those behind it.
        """
        kind, mask = self._model.text_pool_type, self._model.attn_mask
        if mask is None or kind not in ("argmax", "eos"):
            return int(tokens.shape[1])
        ends = tokens if kind == "argmax" else (tokens == self._model.text_eos_id).int()
        return int(ends.argmax(dim=1).max()) + 1

    @property
    def context(self) -> Tensor:
        """Context vectors of the prompts as they are: (words, width)."""
        return self._embedded[0, 1:BEHIND].clone()

    def __call__(self, context: Tensor) -> Tensor:
        """Encode all prompts behind a context (words, width): unit vectors (classes, dim)."""
        model, words = self._model, context.expand(len(self._tokens), -1, -1)
        x = torch.cat([self._embedded[:, :1], words, self._embedded[:, BEHIND:]], dim=1)
        length, mask = x.shape[1], model.attn_mask
        x = x + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=None if mask is None else mask[:length, :length])
        x = model.ln_final(x)
        eos = getattr(model, "text_eos_id", None)
        pooled = text_global_pool(x, self._tokens, model.text_pool_type, eos_token_id=eos)
        project = model.text_projection
        vectors = project(pooled) if isinstance(project, nn.Linear) else pooled @ project
        return F.normalize(vectors, dim=-1)
