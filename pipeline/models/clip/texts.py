"""Encode texts with a CLIP of open_clip, each no further than its end.

In a causal encoder a token sees those before it alone, and the vector of a text is that of its end
token. What pads a text to the context length then changes nothing; of a sentence it is two thirds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import open_clip
import torch
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from pipeline.kernels.transfer import to_device

STEP = 8
"""Texts are read to a multiple of this, so that few lengths differ."""


def text_encoder(
    model: Any, tokens: Tensor, device: torch.device
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Prepare to encode texts, those of about one length together.

    Args:
        model: Model with a function `encode_text`.
        tokens: Tokens of each text, padded to the context length, int64 (texts, tokens) on the CPU.
        device: Device of the model.

    Returns:
        Order in which texts fill batches, int64 (texts,).
        Function of a batch of tokens; its vectors are not normalised, (n, dim) on the device.
    """
    tower = _causal_tower(model)
    if tower is None:
        whole = torch.arange(len(tokens))
        return whole, lambda batch: model.encode_text(to_device(batch, device))
    return _ends(tower, tokens).argsort(stable=True), lambda batch: _encode(tower, batch, device)


def _causal_tower(model: Any) -> Any:
    """Return the part of a model that encodes texts, if no token sees one behind it."""
    tower = model if isinstance(model, open_clip.CLIP) else getattr(model, "text", None)
    if not isinstance(tower, open_clip.CLIP | TextTransformer) or tower.attn_mask is None:
        return None
    appended = getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False)
    return None if appended or _pool(tower) not in ("argmax", "eos") else tower


def _pool(tower: Any) -> str:
    return str(tower.text_pool_type if isinstance(tower, open_clip.CLIP) else tower.pool_type)


def _end_id(tower: Any) -> int:
    return int(tower.text_eos_id if isinstance(tower, open_clip.CLIP) else tower.eos_id)


def _ends(tower: Any, tokens: Tensor) -> Tensor:
    """Return the place of each text's end token, int64 (texts,)."""
    places = torch.arange(tokens.shape[1])[None, :, None].expand(len(tokens), -1, -1)
    return _at_end(tower, places, tokens)[:, 0]


def _at_end(tower: Any, values: Tensor, tokens: Tensor) -> Tensor:
    """Select the vector at the end token of each text: (texts, tokens, n) to (texts, n)."""
    taken: Tensor = text_global_pool(values, tokens, _pool(tower), eos_token_id=_end_id(tower))
    return taken


def _encode(tower: Any, batch: Tensor, device: torch.device) -> Tensor:
    """Encode texts as far as the longest of them goes: int64 (n, tokens) to (n, dim)."""
    length = (int(_ends(tower, batch).max()) // STEP + 1) * STEP
    tokens = to_device(batch[:, :length], device)
    length = tokens.shape[1]
    dtype, projection = tower.transformer.get_cast_dtype(), tower.text_projection
    places = tower.positional_embedding[:length].to(dtype)
    entering = tower.token_embedding(tokens).to(dtype) + places
    leaving = tower.transformer(entering, attn_mask=tower.attn_mask[:length, :length])
    vectors: Tensor = tower.ln_final(_at_end(tower, leaving, tokens))
    if isinstance(projection, nn.Linear):
        vectors = projection(vectors)
    elif projection is not None:
        vectors = vectors @ projection
    return vectors
