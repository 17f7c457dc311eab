"""Configurations of transformers' CLIPModel, translated to open_clip's.

The two libraries build the same network for these; `pipeline.models.clip.weights` translates the
names of its tensors. Whatever open_clip has no counterpart for is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError

TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
"""Values of transformers where a configuration has none for the text encoder."""

VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""Values of transformers where a configuration has none for the image encoder."""

REQUIRED = {
    ("vision", "num_channels"): (3,),
    ("text", "vocab_size"): (49408,),
    ("text", "eos_token_id"): (2, 49407),  # 2 stands for the largest token, in older files
}
"""Values that OpenAI's tokenizer and RGB images need."""

PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
}
"""Values of transformers where the configuration of a CLIPImageProcessor has none."""

RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that open_clip has."""

MERGES = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""sha256 of OpenAI's 48,894 merges, one a line."""


def model_config(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the `config.json` of a CLIPModel to open_clip's `model_cfg`.

    Raises:
        AbsError: If it is another model, or has options that open_clip lacks; names them.
    """
    _check_kind(path, config)
    vision, text = _tower(config, "vision", VISION), _tower(config, "text", TEXT)
    activations = {str(tower["hidden_act"]) for tower in (vision, text)}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise _unsupported(path, f"hidden_act {' and '.join(sorted(activations))}")
    for (name, field), known in REQUIRED.items():
        if (value := {"vision": vision, "text": text}[name][field]) not in known:
            raise _unsupported(path, f"{name}_config.{field} {value!r}, not {known[-1]}")
    try:
        return {
            "embed_dim": config.get("projection_dim", 512),
            "quick_gelu": activations == {"quick_gelu"},
            "vision_cfg": {
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "head_width": _divided(vision["hidden_size"], vision["num_attention_heads"]),
                **_sizes(vision),
            },
            "text_cfg": {
                "context_length": text["max_position_embeddings"],
                "vocab_size": text["vocab_size"],
                "heads": text["num_attention_heads"],
                **_sizes(text),
            },
        }
    except (TypeError, ValueError, ZeroDivisionError):
        raise _unsupported(path, "sizes that do not fit together") from None


def preprocess_config(folder: Path, side: int) -> dict[str, Any] | None:
    """Translate the configuration of a CLIPImageProcessor to open_clip's `preprocess_cfg`.

    Args:
        folder: Folder with a `preprocessor_config.json`, or a `processor_config.json`.
        side: Side of the model's square input, in pixels.

    Returns:
        Mean, std, interpolation and resize mode; None if the folder has neither file.

    Raises:
        AbsError: For preprocessing that open_clip has no counterpart for.
    """
    if not (found := processor_of(folder)):
        return None
    path, given = found
    kind = str(given.get("image_processor_type", given.get("feature_extractor_type", "CLIP")))
    if not kind.startswith("CLIP"):
        raise _unsupported(path, f"a {kind}, not a CLIPImageProcessor")
    values = {**PROCESSOR, **{key: v for key, v in given.items() if v is not None}}
    if values["resample"] not in list(RESAMPLE):
        raise _unsupported(path, f"resample {values['resample']!r}, neither bilinear nor bicubic")
    if not values["do_rescale"] or abs(values["rescale_factor"] * 255 - 1) > 1e-6:
        raise _unsupported(path, "pixels that are not rescaled to 0..1")
    config = {"interpolation": RESAMPLE[values["resample"]], "resize_mode": _mode(values, side)}
    if not config["resize_mode"]:
        said = ", ".join(f"{key} {values[key]}" for key in ("size", "do_center_crop", "crop_size"))
        raise _unsupported(path, f"a resizing that does not end at {side} pixels ({said})")
    if not values["do_normalize"]:
        return {**config, "mean": [0.0] * 3, "std": [1.0] * 3}
    return {**config, "mean": given.get("image_mean"), "std": given.get("image_std")}


def check_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer; AbsError if its merges are not OpenAI's."""
    for name in ("merges.txt", "tokenizer.json"):
        if (folder / name).is_file():
            if _merges_digest(folder / name) != MERGES:
                raise _unsupported(folder / name, "other merges than OpenAI's")
            return True
    return False


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    """Raise AbsError, naming what it is, for a configuration of anything but a CLIPModel."""
    classes, kind = config.get("architectures"), config.get("model_type")
    name = str(classes[0]) if isinstance(classes, list) and classes else ""
    if kind == "clip" and name in ("", "CLIPModel"):
        return
    if kind:
        what = f"a {name or 'model'} of transformers (model_type {kind})"
    elif "architecture" in config:
        what = f"timm's {config['architecture']}"
    else:
        what = "no model configuration of transformers"
    raise AbsError(
        f"model configuration {path} is {what}, not a plain CLIP; clip.model takes folders with an "
        "open_clip_config.json, or of transformers' CLIPModel"
    )


def _tower(config: Mapping[str, Any], name: str, default: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of one encoder; `NAME_config_dict` of older files overrules."""
    given = config.get(f"{name}_config_dict")
    given = config.get(f"{name}_config") if given is None else given
    return {**default, **(given if isinstance(given, Mapping) else {})}


def _sizes(tower: Mapping[str, Any]) -> dict[str, Any]:
    """Translate what both encoders have: width, layers, width of the MLP, epsilon of the norms."""
    width, inner = tower["hidden_size"], tower["intermediate_size"]
    ratio = inner / width
    if int(width * ratio) != inner:  # open_clip rounds the product down
        ratio = math.nextafter(ratio, math.inf)
    sizes = {"width": width, "layers": tower["num_hidden_layers"], "mlp_ratio": ratio}
    epsilon = tower["layer_norm_eps"]
    return sizes if epsilon == 1e-5 else {**sizes, "norm_kwargs": {"eps": epsilon}}


def _divided(width: int, heads: int) -> int:
    """Return the width of a head; ValueError if heads do not divide the width."""
    if width % heads:
        raise ValueError(width)
    return width // heads


def processor_of(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """Return the configuration of the image processor, and its file; None if there is none."""
    parts = {"preprocessor_config.json": "", "processor_config.json": "image_processor"}
    for name, part in parts.items():
        if (path := folder / name).is_file():
            content = files.read_json(path, "preprocessing configuration")
            given = content.get(part) if part and isinstance(content, Mapping) else content
            if not isinstance(given, Mapping):
                raise AbsError(f"preprocessing configuration {path} is not a mapping")
            return path, given
    return None


def _mode(values: Mapping[str, Any], side: int) -> str:
    """Return open_clip's resize mode; empty if the result is not a square of `side` pixels."""
    size, square = values["size"], edges(side)
    cropped = not values["do_center_crop"] or edges(values["crop_size"]) == square
    if not values["do_resize"] or not cropped:
        return ""
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if shortest == side and values["do_center_crop"]:
        return "shortest"
    return "squash" if isinstance(size, Mapping) and edges(size) == square else ""


def edges(size: Any) -> tuple[Any, Any]:
    """Return height and width of a size, which may be one number for both."""
    return (size.get("height"), size.get("width")) if isinstance(size, Mapping) else (size, size)


def _merges_digest(path: Path) -> str:
    """Return the sha256 of the merges that a file of a tokenizer holds, one a line."""
    if path.suffix == ".txt":
        lines = path.read_text(encoding="utf-8", errors="replace").strip().split("\n")
        merges = [line for line in lines if not line.startswith("#version")][: 49408 - 2 * 257]
    else:
        content = files.read_json(path, "tokenizer")
        model = content.get("model") if isinstance(content, Mapping) else None
        found = model.get("merges") if isinstance(model, Mapping) else None
        pairs = found if isinstance(found, list) else []
        merges = [pair if isinstance(pair, str) else " ".join(map(str, pair)) for pair in pairs]
    return hashlib.sha256("\n".join(merges).encode()).hexdigest()


def _unsupported(path: Path, what: str) -> AbsError:
    """Return the error for an option that open_clip has no counterpart for."""
    return AbsError(f"{path} has {what}; convert the model to open_clip's layout")
