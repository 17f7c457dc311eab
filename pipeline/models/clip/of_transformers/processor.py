"""Image processors of transformers, translated to a resize mode, a filter, mean and std.

Pixels are those of the Pillow backend of transformers. Its default backend since 5.0 resizes with
torchvision, which differs by a grey level here and there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import AbsError
from pipeline.models.clip.transformers_layout import PROCESSOR, RESAMPLE, edges, processor_of

IMAGENET = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
"""Mean and std that transformers calls ImageNet's standard."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": PROCESSOR
    | {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "EfficientNet": PROCESSOR
    | IMAGENET
    | {
        "size": {"height": 346, "width": 346},
        "crop_size": {"height": 289, "width": 289},
        "do_center_crop": False,
        "include_top": True,
        "rescale_offset": False,
    },
}
DEFAULTS["Blip"] = DEFAULTS["CLIP"] | {
    "size": {"height": 384, "width": 384},
    "do_center_crop": False,
}
"""Values of transformers where the configuration of an image processor has none, by its kind."""

NORMALISING = ("rescale_factor", "image_mean", "image_std")
"""Entries that normalise pixels."""

USUAL = {"align": "EfficientNet", "blip-2": "Blip"}
"""Kind of processor where a configuration names none, by `model_type`; else that of CLIP."""


def preprocess_of(folder: Path, model_type: str, side: int) -> dict[str, Any]:
    """Translate the configuration of a folder's image processor to that of open_clip.

    Args:
        folder: Folder with a `preprocessor_config.json` or a `processor_config.json`.
        model_type: Family of the model.
        side: Side of the model's square input, in pixels.

    Returns:
        Mean, std, interpolation and resize mode (`pipeline.kernels.resize_modes`).

    Raises:
        AbsError: If there is none, or it does not end at the model's input.
    """
    found = processor_of(folder)
    if not found:
        raise AbsError(f"{folder} has no preprocessor_config.json, which decides its pixels")
    path, given = found
    kind = str(given.get("image_processor_type", given.get("feature_extractor_type", "")))
    name = next((name for name in DEFAULTS if kind.startswith(name)), None)
    if kind and name is None:
        raise AbsError(f"{path} has a {kind}; known are those of {', '.join(DEFAULTS)}")
    name = name or USUAL.get(model_type, "CLIP")
    values = DEFAULTS[name] | {"short": name == "CLIP"}  # what a size of one number means
    values = values | {key: value for key, value in given.items() if value is not None}
    if values["resample"] not in list(RESAMPLE):
        raise AbsError(
            f"{path} has resample {values['resample']!r}, neither bilinear (2) nor bicubic (3)"
        )
    mode = _mode(values, side)
    if not mode:
        said = ", ".join(f"{key} {values[key]}" for key in ("size", "do_center_crop", "crop_size"))
        raise AbsError(f"{path} does not end at the {side} pixels of the model ({said})")
    try:
        normalisation = _normalisation(values)
    except (TypeError, ValueError, ZeroDivisionError):
        said = ", ".join(f"{key} {values[key]}" for key in NORMALISING)
        raise AbsError(f"{path} does not normalise three channels ({said})") from None
    return {
        "interpolation": RESAMPLE[values["resample"]],
        "resize_mode": mode,
        **normalisation,
    }


def _mode(values: Mapping[str, Any], side: int) -> str:
    """Return the resize mode; empty if the result is not a square of `side` pixels."""
    size = values["size"]
    if not values["do_resize"]:
        return ""
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else values["short"] and size
    height, width = edges(size)
    kind, before = ("shortest", shortest) if shortest else ("squash", height)
    if not shortest and height != width:
        return ""
    if not values["do_center_crop"]:
        return "squash" if (kind, before) == ("squash", side) else ""
    fits = edges(values["crop_size"]) == (side, side)
    return f"{kind}:{before}" if fits and isinstance(before, int) and before >= side else ""


def _normalisation(values: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return mean and std of pixels between 0 and 1 that stand for all steps after resizing.

    EfficientNet may subtract 1 after rescaling, and divide by the std once more.
    """
    factor = values["rescale_factor"] * 255 if values["do_rescale"] else 255.0
    mean, std = [0.0] * 3, [1.0] * 3
    if values["do_normalize"]:
        mean, std = list(values["image_mean"]), list(values["image_std"])
    shift = 1.0 if values.get("rescale_offset") else 0.0
    again = values["image_std"] if values.get("include_top") else [1.0] * 3
    return {
        "mean": [round((each + shift) / factor, 8) for each in mean],
        "std": [round(a * b / factor, 8) for a, b in zip(std, again, strict=True)],
    }
