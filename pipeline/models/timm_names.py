"""Names of timm: architecture, normalisation and weights file of a ViT.

An architecture without class attention is refused before its weights are fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm

from pipeline.errors import AbsError, closest
from pipeline.locations import Paths
from pipeline.models.hub import Repository
from pipeline.models.resolved import Resolved
from pipeline.models.vit import check_name

HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What timm calls weights in a repository, the better first."""

READABLE = (".pt", ".pth", ".bin", ".safetensors")
"""What weights are called that can be read, unlike archives of other libraries."""


def resolve_random(name: str, seed: int) -> Resolved:
    """A timm architecture with seeded random weights."""
    return Resolved(name, _architecture(name), None, seed)


def resolve(name: str, weights: str, paths: Paths) -> Resolved:
    """A timm architecture with its tag's weights, fetched if needed, or a local file's."""
    architecture = _architecture(name)
    if weights == "pretrained":
        return Resolved(name, architecture, _file_of(name, paths))
    file = paths.find(weights, "weights of the attention model", "attention.weights")
    return Resolved(name, architecture, file)


def _file_of(name: str, paths: Paths) -> Path:
    """The weights of a tag, under their name in the hub or the last part of their address."""
    config = _config(name)
    if not config.hf_hub_id:
        raise AbsError(
            f"attention.weights: timm has none for {name}; {_tags(name)}, or set it to a file"
        )
    names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_NAMES
    known_as = Path(config.url or "")
    repository = Repository(config.hf_hub_id, paths, "set attention.weights to a file")
    return repository.file(names, known_as.name if known_as.suffix in READABLE else "")


def _architecture(name: str) -> dict[str, Any]:
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
    if not timm.is_model(name):
        hint = closest(name.partition(".")[0], timm.list_models("vit_*"))
        raise AbsError(f"attention.model: timm has no model {name!r}; {hint}")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if config is None:
        raise AbsError(f"attention.model: timm has no weights for {name!r}; {_tags(name)}")
    return config


def _tags(name: str) -> str:
    plain = name.partition(".")[0]
    return closest(name, timm.list_pretrained(f"{plain}.*"))
