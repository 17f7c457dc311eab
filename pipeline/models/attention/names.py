"""Resolve names of timm: architecture, normalisation and weights file of a ViT.

An architecture without a class token's attention is rejected before its weights are downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm

from pipeline.core.errors import AbsError, did_you_mean
from pipeline.core.paths import Paths
from pipeline.models.attention.vit import check_name
from pipeline.models.hub import Repository
from pipeline.models.resolved import Resolved

HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Names of timm's weights in a repository, the preferred first."""

READABLE = (".pt", ".pth", ".bin", ".safetensors")
"""Suffixes of weights files that can be read, unlike archives of other libraries."""


def resolve_random(name: str, seed: int) -> Resolved:
    """Resolve a timm architecture with seeded random weights."""
    return Resolved(name, _architecture(name), None, seed)


def resolve(name: str, weights: str, paths: Paths) -> Resolved:
    """Resolve a timm architecture with the weights of its tag, downloaded if needed, or of a local
    file.
    """
    architecture = _architecture(name)
    if weights == "pretrained":
        return Resolved(name, architecture, _file_of(name, paths))
    file = paths.find(weights, "weights of the attention model", "attention.weights")
    return Resolved(name, architecture, file)


def _file_of(name: str, paths: Paths) -> Path:
    """Return the weights file of a tag, by its name in the hub or the last part of its URL."""
    config = _config(name)
    if not config.hf_hub_id:
        raise AbsError(
            f"attention.weights: timm has no weights for {name}; {_tags(name)}, or set it to a file"
        )
    names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_NAMES
    url_name = Path(config.url or "")
    repository = Repository(config.hf_hub_id, paths, "set attention.weights to a file")
    return repository.file(names, url_name.name if url_name.suffix in READABLE else "")


def _architecture(name: str) -> dict[str, Any]:
    """Return the configuration that decides the output, as JSON types."""
    config = _config(name)
    check_name(name)
    return {
        "architecture": name,
        "hub": config.hf_hub_id,
        "input_size": list(config.input_size),
        "mean": list(config.mean),
        "std": list(config.std),
    }


def _config(name: str) -> Any:
    """Return timm's configuration of a model; AbsError with a suggestion for an unknown name."""
    if not timm.is_model(name):
        hint = did_you_mean(name.partition(".")[0], timm.list_models("vit_*"))
        raise AbsError(f"attention.model: timm has no model {name!r}; {hint}")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if config is None:
        raise AbsError(f"attention.model: timm has no weights for {name!r}; {_tags(name)}")
    return config


def _tags(name: str) -> str:
    """Suggest a name with pretrained weights."""
    plain = name.partition(".")[0]
    return did_you_mean(name, timm.list_pretrained(f"{plain}.*"))
