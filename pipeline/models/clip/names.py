"""Resolve names of open_clip: architecture and weights file, with the activation of the weights.

open_clip builds `ViT-B-16` with GELU and only warns that OpenAI's weights were trained with
QuickGELU, which costs 4 points on ImageNet. Here the name is resolved to its `-quickgelu` variant,
and a mismatch that cannot be resolved is an error. An unsupported architecture is rejected before
its weights are downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip

from pipeline.core.errors import AbsError, did_you_mean
from pipeline.core.paths import Paths
from pipeline.models.clip.vision import vision_of
from pipeline.models.hub import Repository
from pipeline.models.resolved import Resolved
from pipeline.models.weights import is_torchscript

HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Default names of open_clip's weights in a repository, the preferred first."""


def resolve_random(name: str, seed: int) -> Resolved:
    """Resolve a built-in architecture with seeded random weights."""
    return Resolved(name, {"model": _config(name), "preprocess": {}}, None, seed)


def resolve(name: str, weights: str, paths: Paths) -> Resolved:
    """Resolve a built-in architecture with the weights of a tag, downloaded if needed, or of a
    local file.
    """
    _config(name)
    tag = open_clip.get_pretrained_cfg(name, weights)
    if not tag:
        file = _local_file(name, weights, paths)
        # Only OpenAI publishes weights as TorchScript; `weights.read` rejects any other.
        name = _activation(name, True, weights) if is_torchscript(file) else name
        return Resolved(name, {"model": _config(name), "preprocess": {}}, file)
    name = _activation(name, bool(tag.get("quick_gelu", False)), weights)
    preprocess = {
        key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag
    }
    architecture = {"model": _config(name), "preprocess": preprocess}
    return Resolved(name, architecture, _file_of(tag, paths))


def _file_of(tag: dict[str, Any], paths: Paths) -> Path:
    """Return the weights file of a tag, by its name in the hub or the last part of its URL."""
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    local_name = Path(str(tag.get("url", ""))).name
    source = Repository(repository, paths, "set clip.weights to a file")
    return source.file((name,) if name else HUB_NAMES, local_name)


def _config(name: str) -> dict[str, Any]:
    """Return open_clip's configuration; AbsError for an unknown name, ConfigError for an
    unsupported one.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        hint = did_you_mean(name, open_clip.list_models())
        raise AbsError(f"clip.model: open_clip has no model {name!r}; {hint}")
    vision_of(name, config)
    return dict(config)


def _local_file(name: str, weights: str, paths: Paths) -> Path:
    """Return a local weights file; AbsError if the value looks like a tag that does not exist."""
    if "/" not in weights and "." not in weights:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise AbsError(
            f"clip.weights: {name} has no weights {weights!r}; {did_you_mean(weights, tags)}"
        )
    return paths.find(weights, "CLIP weights", "clip.weights")


def _activation(name: str, quick: bool, weights: str) -> str:
    """Return the variant of a name that has the activation of the weights; AbsError if none has."""
    if bool(_config(name).get("quick_gelu", False)) == quick:
        return name
    other = f"{name}-quickgelu" if quick else name.removesuffix("-quickgelu")
    if other not in open_clip.list_models():
        raise AbsError(
            f"clip.model: {name} has another activation than its weights {weights!r} were trained "
            "with; choose other weights"
        )
    return other
