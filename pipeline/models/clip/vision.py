"""Requirements on a CLIP's configuration so that its image encoder can be split at a block.

Feature crops enter the encoder at an inner block, as windows of its token grid behind the class
token. So it must be open_clip's own ViT with a square grid, plain blocks and a projected class
token. This is checked from the configuration alone, before torch is imported or anything is
downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pipeline.core.errors import ConfigError

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

NEEDS_VIT = "feature crops need a ViT with a class token (such as ViT-B-16)"
"""Advice for an unsupported image encoder."""
NEEDS_TEXT_ENCODER = "choose one with open_clip's own text encoder (such as ViT-B-16)"
"""Advice for an unsupported text encoder."""


@dataclass(frozen=True)
class Vision:
    """Dimensions of an image encoder that can be split."""

    image_size: int
    """Side of the square input, in pixels."""
    patch_size: int
    """Side of a patch, in pixels."""
    layers: int
    """Number of blocks."""
    dim: int
    """Length of an embedding."""
    width: int
    """Length of a token."""

    @property
    def grid(self) -> int:
        """Tokens along a side; pixels that do not fill a patch are left out."""
        return self.image_size // self.patch_size


def vision_of(name: str, config: Any) -> Vision:
    """Check an open_clip configuration and return the dimensions of its image encoder.

    Args:
        name: Name of the model, for errors.
        config: Configuration in open_clip's format.

    Raises:
        ConfigError: If the model is not supported; says why.
    """
    parts = config if isinstance(config, Mapping) else {}
    vision, text = parts.get("vision_cfg"), parts.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise ConfigError(f"clip.model: the configuration of {name} has no vision_cfg and text_cfg")
    if reason := _unfit(vision) or ("is a CoCa model" if "multimodal_cfg" in parts else ""):
        raise ConfigError(f"clip.model: {name} {reason}; {NEEDS_VIT}")
    _check_text(name, text)
    sides = [_side(vision, field) for field in ("image_size", "patch_size")]
    lengths = [parts.get("embed_dim"), _value(vision, "width")]
    numbers = [*sides, _value(vision, "layers"), *lengths]
    if not all(map(_positive, numbers)) or sides[0] < sides[1]:
        raise ConfigError(
            f"clip.model: {name} has image_size, patch_size, layers, embed_dim, width of "
            f"{numbers}; expected whole numbers and a patch within the image"
        )
    return Vision(*numbers)


def activation(config: Mapping[str, Any]) -> str:
    """Return the activation of both encoders, `QuickGELU` or `GELU`, from a configuration."""
    return "QuickGELU" if config.get("quick_gelu", False) else "GELU"


def _unfit(vision: Mapping[str, Any]) -> str:
    """Return why the image encoder cannot be split; empty if it can."""
    if vision.get("timm_model_name"):
        return f"is built on timm's {vision['timm_model_name']}, not on open_clip's ViT"
    if isinstance(vision.get("layers"), list | tuple):
        return "is a ResNet"
    if vision.get("attentional_pool"):
        return "pools its tokens by attention"
    if vision.get("pool_type", "tok") != "tok":
        return f"pools its tokens by pool_type {vision['pool_type']!r}"
    custom = [field for field in CUSTOM if vision.get(field)]
    if custom or vision.get("block_type") == "custom":
        return f"has blocks that cannot be split ({', '.join(custom) or 'block_type custom'})"
    for field in ("image_size", "patch_size"):
        if not _square(vision, field):
            return f"has the {field} {vision[field]!r}, not a square"
    return ""


def _check_text(name: str, text: Mapping[str, Any]) -> None:
    """Raise ConfigError for a text encoder or tokenizer that is not supported."""
    if text.get("hf_model_name"):
        encoder = text["hf_model_name"]
        raise ConfigError(
            f"clip.model: {name} encodes texts with {encoder} of transformers; {NEEDS_TEXT_ENCODER}"
        )
    if text.get("hf_tokenizer_name") and not find_spec("transformers"):
        raise ConfigError(
            f"clip.model: {name} needs the tokenizer {text['hf_tokenizer_name']}; install it with "
            f"`pip install transformers`, or {NEEDS_TEXT_ENCODER}"
        )


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
