"""Names of open_clip: architecture and weights file, with the activation that the weights need.

open_clip builds `ViT-B-16` with GELU and only warns that OpenAI's weights were trained with
QuickGELU, which costs 4 points on ImageNet. Here the name is resolved to its `-quickgelu`
variant, and a mismatch that cannot be resolved is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained

from pipeline.errors import AbsError, MissingInput, closest
from pipeline.locations import Paths
from pipeline.models.hub import fetch
from pipeline.models.resolved import Resolved


def resolve_random(name: str, seed: int) -> Resolved:
    """A built-in architecture with seeded random weights."""
    return Resolved(name, {"model": _config(name), "preprocess": {}}, None, seed)


def resolve(name: str, weights: str, paths: Paths) -> Resolved:
    """A built-in architecture with a tag's weights, fetched if needed, or a local file's."""
    tag = open_clip.get_pretrained_cfg(name, weights)
    if not tag:
        file = _local_file(name, weights, paths)
        return Resolved(name, {"model": _config(name), "preprocess": {}}, file)
    name = _activation(name, bool(tag.get("quick_gelu", False)), weights)
    preprocess = {
        key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag
    }
    file = _fetch(tag, paths)
    return Resolved(name, {"model": _config(name), "preprocess": preprocess}, file)


def _fetch(tag: dict[str, Any], paths: Paths) -> Path:
    """The file of a tag: from the hub if it is there, else from its own address."""
    if not tag.get("hf_hub"):
        try:
            return Path(download_pretrained(tag, cache_dir=paths.weights))
        except OSError as error:
            raise MissingInput(f"{tag.get('url')} cannot be fetched: {error}") from None
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    return fetch(repository, names, paths.weights, "clip.weights")


def _config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    if config is None:
        hint = closest(name, open_clip.list_models())
        raise AbsError(f"clip.model: open_clip has no model {name!r}; {hint}")
    return dict(config)


def _local_file(name: str, weights: str, paths: Paths) -> Path:
    if "/" not in weights and "." not in weights:
        tags = open_clip.list_pretrained_tags_by_model(name)
        _config(name)
        raise AbsError(f"clip.weights: {name} has no weights {weights!r}; {closest(weights, tags)}")
    return paths.find(weights, "CLIP weights", "clip.weights")


def _activation(name: str, quick: bool, weights: str) -> str:
    if bool(_config(name).get("quick_gelu", False)) == quick:
        return name
    other = f"{name}-quickgelu" if quick else name.removesuffix("-quickgelu")
    if other not in open_clip.list_models():
        raise AbsError(
            f"{name} has another activation than its weights {weights!r} were trained with"
        )
    return other
