"""Build models of open_clip from their configuration."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torchvision.transforms import Compose

from pipeline.core.errors import AbsError
from pipeline.models import weights
from pipeline.models.clip.weights import fill
from pipeline.models.device import quiet
from pipeline.models.initial_values import undrawn
from pipeline.models.resolved import Resolved


def build(model: Resolved, found: weights.Found | None) -> tuple[Any, Compose]:
    """Build a model in float32, with its weights or seeded random ones, and its preprocessing.

    Raises:
        AbsError: If the weights do not fit the model.
    """
    config = deepcopy(model.architecture["model"])
    _use_local_text_encoder(model, config["text_cfg"])
    kind = _class_of(config)
    fields = {field.name for field in dataclasses.fields(PreprocessCfg)} - {"size"}
    given = model.architecture["preprocess"] or {}
    preprocess = {k: v for k, v in given.items() if k in fields and v is not None}
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(model.seed or 0)
        try:
            with undrawn() if found else nullcontext():
                built = kind(**config)
            if found:
                fill(built, found.tensors)
            cfg = PreprocessCfg(**{"size": built.visual.image_size, **preprocess})
            transform = image_transform_v2(cfg, is_train=False)
        except Exception as error:  # of many types, for weights of another model
            reason = weights.short_reason(error)
            raise AbsError(f"{model.name} with weights {model.file}: {reason}") from None
    return built, transform


def _use_local_text_encoder(model: Resolved, text: dict[str, Any]) -> None:
    """Let a text encoder of transformers be built from the `config.json` beside its tokenizer.

    Raises:
        AbsError: If there is none.
    """
    if not text.get("hf_model_name"):
        return
    described = next((path for path in model.extra if path.name == "config.json"), None)
    if described is None:
        raise AbsError(
            f"clip.model: {model.name} encodes texts with {text['hf_model_name']} of transformers, "
            "whose config.json is not beside its tokenizer"
        )
    text |= {"hf_model_name": str(described.parent), "hf_model_pretrained": False}


def _class_of(config: dict[str, Any]) -> Any:
    """Return the class of open_clip that builds a configuration; takes its name out."""
    custom = config.pop("custom_text", False) or config["text_cfg"].get("hf_model_name")
    if "multimodal_cfg" in config:
        return open_clip.CoCa
    return open_clip.CustomTextCLIP if custom else open_clip.CLIP
