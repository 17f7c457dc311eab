"""Names of timm: architecture, normalisation and weights file of a ViT."""

from __future__ import annotations

from typing import Any

import timm

from pipeline.errors import AbsError, closest
from pipeline.locations import Paths
from pipeline.models.hub import fetch
from pipeline.models.resolved import Resolved


def resolve_random(name: str, seed: int) -> Resolved:
    """A timm architecture with seeded random weights."""
    return Resolved(name, _architecture(name), None, seed)


def resolve(name: str, weights: str, paths: Paths) -> Resolved:
    """A timm architecture with its tag's weights, fetched if needed, or a local file's."""
    architecture = _architecture(name)
    if weights != "pretrained":
        file = paths.find(weights, "weights of the attention model", "attention.weights")
        return Resolved(name, architecture, file)
    file = fetch(architecture["hub"], ["model.safetensors"], paths.weights, "attention.weights")
    return Resolved(name, architecture, file)


def _architecture(name: str) -> dict[str, Any]:
    if not timm.is_model(name):
        hint = closest(name.partition(".")[0], timm.list_models("vit_*"))
        raise AbsError(f"attention.model: timm has no model {name!r}; {hint}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise AbsError(f"attention.model: timm has no weights for {name!r}")
    return {
        "architecture": name,
        "hub": config.hf_hub_id,
        "input_size": list(config.input_size),
        "mean": list(config.mean),
        "std": list(config.std),
    }
