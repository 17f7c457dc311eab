"""Build models of transformers, with the interface that open_clip's models have here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import AbsError
from pipeline.models import weights
from pipeline.models.clip.dimensions import Vision
from pipeline.models.clip.of_transformers.families import FAMILIES, padded, padding, vision_of
from pipeline.models.clip.of_transformers.texts import TextEncoder
from pipeline.models.clip.of_transformers.towers import tower_of
from pipeline.models.device import quiet
from pipeline.models.initial_values import undrawn

UNUSED = ("itm_head.", "text_model.pooler.")
"""Parts that no vector depends on, which a file may lack."""


class TransformersModel(nn.Module):
    """A model of transformers: an image encoder that can be cut, and a text encoder.

    Args:
        model: The model as transformers builds it.
        config: Content of its `config.json`.
        vision: Dimensions of its image encoder.
    """

    def __init__(self, model: Any, config: Mapping[str, Any], vision: Vision) -> None:
        super().__init__()
        kind = str(config["model_type"])
        self.text = TextEncoder(model, kind, padding(config))
        self.tower = tower_of(model, kind, vision)

    @property
    def convertible(self) -> list[nn.Module]:
        """List the modules that may have another dtype; a Q-Former stays in float32."""
        inner = self.text.model
        exact = [getattr(inner, name, None) for name in inner._keep_in_fp32_modules or ()]
        kept = {m for part in exact if isinstance(part, nn.Module) for m in part.modules()}
        return [module for module in self.modules() if module not in kept]

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Compute embeddings of texts, not normalised: int64 (n, tokens) to (n, dim)."""
        embeddings: Tensor = self.text(tokens)
        return embeddings


def bare(config: Mapping[str, Any]) -> Any:
    """Build the model that a `config.json` describes as transformers does, with random weights.

    Raises:
        AbsError: If transformers cannot build it.
    """
    import transformers

    family = FAMILIES[config["model_type"]]
    try:
        with quiet():
            described = getattr(transformers, family.config).from_dict(padded(config))
            return getattr(transformers, family.model)(described).float().eval()
    except Exception as error:  # of many types, for a configuration that contradicts itself
        reason = weights.short_reason(error)
        raise AbsError(f"clip.model: transformers cannot build the model: {reason}") from None


def build(name: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TransformersModel:
    """Build a model with its weights in float32.

    Args:
        name: Name of the model, for errors.
        config: Content of its `config.json`.
        tensors: Weights by the names of transformers.

    Raises:
        AbsError: If the weights are not all of the model's, with their shapes, and no others.
    """
    with undrawn():
        model = bare(config)
    kept = {key: value for key, value in tensors.items() if not key.endswith("position_ids")}
    try:
        result = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:  # for other shapes
        raise AbsError(f"{name}: weights do not fit: {weights.short_reason(error)}") from None
    missing = [each for each in result.missing_keys if not each.startswith(UNUSED)]
    for what, names in {"has no": missing, "has a needless": result.unexpected_keys}.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise AbsError(f"{name}: weights do not fit: the file {what} {names[0]}{more}")
    with torch.no_grad():
        return TransformersModel(model, config, vision_of(name, config)).eval()
