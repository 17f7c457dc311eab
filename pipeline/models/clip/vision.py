"""Requirements on a CLIP's configuration so that its image encoder can be split at a block.

Feature crops enter the encoder at an inner block, as windows of its token grid behind the tokens
that are no patches. So it must be a ViT with a square grid, of open_clip or one of timm's that are
known, whose vector is its class token, the mean of its patches, or an attention over its tokens by
one constant query. This is checked from the configuration alone, before torch is imported or
anything is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.models.clip.dimensions import Pooling, Vision
from pipeline.models.clip.of_transformers import families
from pipeline.models.clip.timm_towers import TOWERS, TimmTower

DEFAULTS = {"image_size": 224, "patch_size": 16, "layers": 12, "width": 768}
"""Values that open_clip uses where a configuration has none."""

CUSTOM = (
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)
"""Options that replace the plain blocks, as `block_type` does."""

POOLINGS: dict[Any, Pooling] = {
    "tok": "class token",
    "avg": "mean",
    "token": "class token",
    "map": "attention",
}
"""Pooling of each `pool_type` of open_clip's ViT and `timm_pool` of timm's."""

ROBERTA = "roberta"
"""Part of the names of the text encoders of transformers that are known to work here."""

NEEDS_VIT = "feature crops need a ViT (such as ViT-B-16)"
"""Advice for an unsupported image encoder."""
NEEDS_TEXT_ENCODER = "choose one with open_clip's own text encoder (such as ViT-B-16)"
"""Advice for an unsupported text encoder."""


def vision_of(name: str, config: Any) -> Vision:
    """Check a configuration and return the dimensions of its image encoder.

    Args:
        name: Name of the model, for errors.
        config: Configuration in open_clip's format, or that of a model of transformers under its
            own name (`families.KEY`).

    Raises:
        ConfigError: If the model is not supported; says why.
    """
    parts = config if isinstance(config, Mapping) else {}
    if isinstance(given := parts.get(families.KEY), Mapping):
        return families.vision_of(name, given)
    vision, text = parts.get("vision_cfg"), parts.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise ConfigError(f"clip.model: the configuration of {name} has no vision_cfg and text_cfg")
    of_timm = vision.get("timm_model_name")
    if reason := _unfit_of_timm(vision, parts) if of_timm else _unfit(vision):
        raise ConfigError(f"clip.model: {name} {reason}; {NEEDS_VIT}")
    _check_text(name, text)
    if of_timm:
        return _vision_of_timm(TOWERS[of_timm], POOLINGS[_timm_pool(vision)], parts["embed_dim"])
    sides = [_side(vision, field) for field in ("image_size", "patch_size")]
    lengths = [parts.get("embed_dim"), _value(vision, "width")]
    numbers = [*sides, _value(vision, "layers"), *lengths]
    if not all(map(_positive, numbers)) or sides[0] < sides[1]:
        raise ConfigError(
            f"clip.model: {name} has image_size, patch_size, layers, embed_dim, width of "
            f"{numbers}; expected whole numbers and a patch within the image"
        )
    attends = vision.get("attentional_pool")
    image_size, patch_size, layers, dim, width = numbers
    pooling = "attention" if attends else POOLINGS[_pool(vision)]
    return Vision(image_size, patch_size, layers, dim, width, pooling=pooling)


def _vision_of_timm(tower: TimmTower, pooling: Pooling, dim: int) -> Vision:
    """Return the dimensions of an encoder of timm."""
    sizes = tower.image_size, tower.patch_size, tower.layers, dim, tower.width
    return Vision(*sizes, tower.prefix, pooling, "of EVA" if tower.eva else "plain")


def activation(config: Mapping[str, Any]) -> str:
    """Return the activation of both encoders, `QuickGELU` or `GELU`, from a configuration.

    Models of transformers name one for each part.
    """
    if families.KEY in config:
        return "as configured"
    return "QuickGELU" if config.get("quick_gelu", False) else "GELU"


def _unfit(vision: Mapping[str, Any]) -> str:
    """Return why the image encoder cannot be split; empty if it can."""
    if isinstance(vision.get("layers"), list | tuple):
        return "is a ResNet"
    if vision.get("attentional_pool") not in (None, False, True):
        return f"pools its tokens twice (attentional_pool {vision['attentional_pool']!r})"
    if _pool(vision) not in ("tok", "avg"):
        return f"pools its tokens by pool_type {_pool(vision)!r}"
    custom = [field for field in CUSTOM if vision.get(field)]
    if custom or vision.get("block_type") == "custom":
        return f"has blocks that cannot be split ({', '.join(custom) or 'block_type custom'})"
    for field in ("image_size", "patch_size"):
        if not _square(vision, field):
            return f"has the {field} {vision[field]!r}, not a square"
    return ""


def _unfit_of_timm(vision: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """Return why an image encoder of timm cannot be split; empty if it can."""
    name, pool = vision["timm_model_name"], _timm_pool(vision)
    if name not in TOWERS:
        return f"is built on timm's {name}, which is no plain ViT"
    tower = TOWERS[name]
    if pool not in POOLINGS or (POOLINGS[pool] == "class token" and not tower.prefix):
        return f"pools the tokens of timm's {name} by timm_pool {pool!r}"
    if _side(vision, "image_size") != tower.image_size or not _square(vision, "image_size"):
        return (
            f"has the image_size {_value(vision, 'image_size')!r}, and timm's {name} "
            f"{tower.image_size}"
        )
    if not _positive(parts.get("embed_dim")):
        return f"has the embed_dim {parts.get('embed_dim')!r}, not a whole number"
    return ""


def _check_text(name: str, text: Mapping[str, Any]) -> None:
    """Raise ConfigError for a text encoder or tokenizer that is not supported."""
    encoder, tokenizer = text.get("hf_model_name"), text.get("hf_tokenizer_name")
    if encoder and not (tokenizer and ROBERTA in encoder):
        raise ConfigError(
            f"clip.model: {name} encodes texts with {encoder} of transformers; {NEEDS_TEXT_ENCODER}"
        )
    if tokenizer and not find_spec("transformers"):
        raise ConfigError(
            f"clip.model: {name} needs the tokenizer {tokenizer}; install it with "
            f"`pip install transformers`, or {NEEDS_TEXT_ENCODER}"
        )


def _pool(vision: Mapping[str, Any]) -> Any:
    """Return the pooling of open_clip's ViT, by its name there."""
    return vision.get("pool_type", "tok")


def _timm_pool(vision: Mapping[str, Any]) -> Any:
    """Return the pooling of timm's ViT; an empty one stands for the encoder's own, the mean."""
    return vision.get("timm_pool", "avg") or "avg"


def _value(vision: Mapping[str, Any], field: str) -> Any:
    """Return a value of the configuration, or open_clip's default."""
    return vision.get(field, DEFAULTS[field])


def _square(vision: Mapping[str, Any], field: str) -> bool:
    """Return whether a size has two equal sides."""
    value = _value(vision, field)
    return not isinstance(value, list | tuple) or (len(value) == 2 and value[0] == value[1])


def _side(vision: Mapping[str, Any], field: str) -> Any:
    """Return the side of a square size."""
    value = _value(vision, field)
    return value[0] if isinstance(value, list | tuple) else value


def _positive(value: Any) -> bool:
    """Return whether a value is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
