"""Names of open_clip: architecture and weights file, with the activation that the weights need.

open_clip builds `ViT-B-16` with GELU and only warns that OpenAI's weights were trained with
QuickGELU, which costs 4 points on ImageNet. Here the name is resolved to its `-quickgelu`
variant, and a mismatch that cannot be resolved is an error. An architecture that cannot serve is
refused before its weights are fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip

from pipeline.errors import AbsError, closest
from pipeline.locations import Paths
from pipeline.models.hub import Repository
from pipeline.models.resolved import Resolved
from pipeline.models.vision import vision_of
from pipeline.models.weights import is_torchscript

HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip calls weights in a repository that says nothing else, the best first."""


def resolve_random(name: str, seed: int) -> Resolved:
    """A built-in architecture with seeded random weights."""
    return Resolved(name, {"model": _config(name), "preprocess": {}}, None, seed)


def resolve(name: str, weights: str, paths: Paths) -> Resolved:
    """A built-in architecture with a tag's weights, fetched if needed, or a local file's."""
    _config(name)
    tag = open_clip.get_pretrained_cfg(name, weights)
    if not tag:
        file = _local_file(name, weights, paths)
        # Only OpenAI gives weights as TorchScript; `weights.read` refuses any other.
        name = _activation(name, True, weights) if is_torchscript(file) else name
        return Resolved(name, {"model": _config(name), "preprocess": {}}, file)
    name = _activation(name, bool(tag.get("quick_gelu", False)), weights)
    preprocess = {
        key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag
    }
    architecture = {"model": _config(name), "preprocess": preprocess}
    return Resolved(name, architecture, _file_of(tag, paths))


def _file_of(tag: dict[str, Any], paths: Paths) -> Path:
    """The file of a tag, under its name in the hub or the last part of its address."""
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    known_as = Path(str(tag.get("url", ""))).name
    found = Repository(repository, paths, "set clip.weights to a file")
    return found.file((name,) if name else HUB_NAMES, known_as)


def _config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    if config is None:
        hint = closest(name, open_clip.list_models())
        raise AbsError(f"clip.model: open_clip has no model {name!r}; {hint}")
    vision_of(name, config)
    return dict(config)


def _local_file(name: str, weights: str, paths: Paths) -> Path:
    if "/" not in weights and "." not in weights:
        tags = open_clip.list_pretrained_tags_by_model(name)
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
