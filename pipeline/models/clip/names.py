"""Resolve names of open_clip: architecture and weights file, with the settings of the weights.

Weights were trained with one activation and one preprocessing. open_clip builds `ViT-B-16` with
GELU and only warns that OpenAI's weights were trained with QuickGELU, which costs 4 points on
ImageNet; for a file it takes GELU and OpenAI's preprocessing without a word. Here both come from
the tag of the weights, or from the configuration beside a file, or from the tag whose published
checksum the file has; else it is said what was assumed. A name is resolved to the variant with the
activation of its weights, and a mismatch that cannot be resolved is an error. An unsupported
architecture is rejected before its weights are downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import open_clip

from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.models.clip.folder import FolderConfig, config_beside
from pipeline.models.clip.preprocess import OPENAI, preprocess_of, unusual
from pipeline.models.clip.vision import activation, vision_of
from pipeline.models.hub import Repository
from pipeline.models.local_dir import OPEN_CLIP, TOKENIZER, TOKENIZER_OF_TRANSFORMERS
from pipeline.models.resolved import LOCAL, Resolved, is_file_name
from pipeline.models.weights import is_torchscript

HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Default names of open_clip's weights in a repository, the preferred first."""

OWNER = "FacebookAI"
"""Owner of the repositories that open_clip names without one, such as `roberta-base`."""

CHECKSUM = re.compile(r"/([0-9a-f]{64})/|-([0-9a-f]{8})\.\w+$")
"""sha256, or its first 8 digits, in the addresses that open_clip downloads weights from."""


def resolve_random(name: str, seed: int, paths: Paths) -> Resolved:
    """Resolve a built-in architecture with seeded random weights; its tokenizer is a real one."""
    model = _config(name)
    extra = _tokenizer_of(name, model, paths)
    return Resolved(name, {"model": model, "preprocess": {}}, None, seed, extra)


def resolve(name: str, weights: str, paths: Paths, digests: HashCache) -> Resolved:
    """Resolve a built-in architecture with the weights of a tag, downloaded if needed, or of a
    local file.
    """
    _config(name)
    tag = open_clip.get_pretrained_cfg(name, weights)
    if not tag:
        return _resolve_file(name, _local_file(name, weights, paths), paths, digests)
    name = _variant(name, bool(tag.get("quick_gelu", False)), weights)
    architecture = {"model": _config(name), "preprocess": {k: tag[k] for k in OPENAI if k in tag}}
    preprocess_of(name, architecture["preprocess"])
    extra = _tokenizer_of(name, architecture["model"], paths)
    return Resolved(name, architecture, _file_of(tag, paths), extra=extra)


def _resolve_file(name: str, file: Path, paths: Paths, digests: HashCache) -> Resolved:
    """Resolve a built-in architecture with the weights of a local file."""
    published = _published(digests.sha256(file))
    if config := config_beside(file):
        return _as_configured(name, file, config, published)
    note = ""
    if published:
        quick, preprocess = published.get("quick_gelu", False), unusual(published)
    else:
        # Only OpenAI publishes weights as TorchScript; `weights.read` rejects any other.
        quick, preprocess = is_torchscript(file) or _config(name).get("quick_gelu"), _shared(name)
        note = (
            f"{file}: no {OPEN_CLIP.config} beside it; assumed "
            f"{activation({'quick_gelu': quick})}, {preprocess_of(name, preprocess)}"
        )
    name = _variant(name, bool(quick), str(file))
    architecture = {"model": _config(name), "preprocess": preprocess}
    extra = _tokenizer_of(name, architecture["model"], paths)
    return Resolved(name, architecture, file, extra=extra, note=note)


def _as_configured(
    name: str, file: Path, config: FolderConfig, published: dict[str, Any]
) -> Resolved:
    """Resolve a file with the configuration beside it.

    Raises ConfigError if that is of another model than the name, or than the published one that the
    file is.
    """
    wanted, found = vision_of(name, _config(name)), vision_of(str(config.path), config.model)
    preprocess = preprocess_of(str(config.path), config.preprocess)
    if wanted != found:
        raise ConfigError(
            f"clip.model: {name} is another model than {config.path}, beside its weights, says: "
            f"{wanted} and {found}; set clip.model to the name of the model in the file"
        )
    said = activation(config.model), preprocess
    known = activation(published), preprocess_of(name, published)
    if published and said != known:
        raise ConfigError(
            f"clip.weights: {file} is a file that open_clip publishes with {known[0]}, {known[1]}; "
            f"{config.path} beside it says {said[0]}, {said[1]}; move one of them"
        )
    architecture = {"model": config.model, "preprocess": unusual(config.preprocess)}
    where = f"{LOCAL}{file.parent}"
    return Resolved(where, architecture, file, extra=config.extra, note=config.note)


def _published(sha256: str) -> dict[str, Any]:
    """Return open_clip's settings of the tag whose weights have a checksum; empty if none has."""
    for name, tag in open_clip.list_pretrained():
        settings = open_clip.get_pretrained_cfg(name, tag)
        found = CHECKSUM.search(str(settings.get("url", "")))
        if found and sha256.startswith(found[1] or found[2]):
            return dict(settings)
    return {}


def _file_of(tag: dict[str, Any], paths: Paths) -> Path:
    """Return the weights file of a tag, by its name in the hub or the last part of its URL."""
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    local_name = Path(str(tag.get("url", ""))).name
    source = Repository(repository, paths, "set clip.weights to a file")
    return source.file((name,) if name else HUB_NAMES, local_name)


def _shared(name: str) -> dict[str, Any]:
    """Return the preprocessing that all tags of a name have; OpenAI's if they differ."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    first, *others = [unusual(open_clip.get_pretrained_cfg(name, tag)) for tag in tags] or [{}]
    return first if all(other == first for other in others) else {}


def _tokenizer_of(name: str, model: dict[str, Any], paths: Paths) -> tuple[Path, ...]:
    """Return the files that decide a name's tokenizer; none for open_clip's own.

    MissingInput if they are neither on this machine nor can be fetched.
    """
    repository = model["text_cfg"].get("hf_tokenizer_name")
    if not repository:
        return ()
    remedy = f"choose another clip.model than {name}"
    named = repository if "/" in repository else f"{OWNER}/{repository}"
    folder = Repository(named, paths, remedy).folder([TOKENIZER_OF_TRANSFORMERS])
    return tuple(folder / file for file in TOKENIZER if (folder / file).is_file())


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
    """Return a local weights file; AbsError for a folder, or a value that looks like a tag that
    does not exist.
    """
    if not is_file_name(weights):
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise AbsError(
            f"clip.weights: {name} has no weights {weights!r}; {did_you_mean(weights, tags)}"
        )
    file = paths.find(weights, "CLIP weights", "clip.weights")
    if file.is_dir():
        raise AbsError(
            f"clip.weights: {file} is a folder; set clip.model to {LOCAL}{file} and clip.weights "
            "to null, or clip.weights to a file"
        )
    return file


def _variant(name: str, quick: bool, weights: str) -> str:
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
