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
from pipeline.models.batches import Batches

STEP = 8
"""Lengths are rounded up to a multiple of this, so that few differ and batches are full."""


def encode_texts(model: Any, tokens: Tensor, in_batches: Batches, device: torch.device) -> Tensor:
    """Encode texts, those of about one length together.

    Args:
        model: Model with a function `encode_text`.
        tokens: Tokens of each text, padded to the context length, int64 (texts, tokens) on the CPU.
        in_batches: Applies the model to batches.
        device: Device of the model.

    Returns:
        Vectors as they leave the model, not normalised, (texts, dim) on the device.
    """
    tower = _causal_tower(model)
    if tower is None:
        return in_batches(lambda batch: model.encode_text(to_device(batch, device)), tokens)
    whole = tokens.shape[1]
    needed = (_ends(tower, tokens) // STEP + 1).mul(STEP).clamp(max=whole)
    places, parts = [], []
    for length in needed.unique().tolist():
        of_length = needed == length
        some = tokens[of_length, :length]
        encode = _encoder(tower, length, device)
        parts.append(in_batches(encode, some, each=length / whole))
        places.append(of_length.nonzero()[:, 0])
    order = to_device(torch.cat(places).argsort(), device)
    return torch.cat(parts)[order]


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
    """Take what stands at the end token of each text: (texts, tokens, n) to (texts, n)."""
    taken: Tensor = text_global_pool(values, tokens, _pool(tower), eos_token_id=_end_id(tower))
    return taken


def _encoder(tower: Any, length: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function that encodes texts of a number of tokens, int64 (n, length) to (n, dim)."""
    dtype = tower.transformer.get_cast_dtype()
    places = tower.positional_embedding[:length].to(dtype)
    mask, projection = tower.attn_mask[:length, :length], tower.text_projection

    def encode(batch: Tensor) -> Tensor:
        tokens = to_device(batch, device)
        entering = tower.token_embedding(tokens).to(dtype) + places
        leaving = tower.transformer(entering, attn_mask=mask)
        ends: Tensor = tower.ln_final(_at_end(tower, leaving, tokens))
        vectors: Tensor
        if projection is None:
            vectors = ends
        elif isinstance(projection, nn.Linear):
            vectors = projection(ends)
        else:
            vectors = ends @ projection
        return vectors

    return encode
