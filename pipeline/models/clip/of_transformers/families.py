"""Families of transformers' models, by the `model_type` of a configuration: what is inside.

Dimensions are read from a folder's `config.json`, before torch or transformers is imported. The
paper scores these models without saying what a feature crop is in them; where windows enter is this
project's definition, chosen so that the whole grid as a window gives the vector of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.models.clip.dimensions import Vision

KEY = "transformers"
"""Entry of a resolved architecture that holds the `config.json` of a model of transformers."""

OLDER = ("altclip", "groupvit")
"""Families whose older configurations have parts under `text_config_dict` and such."""

UNUSED = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "label2id", "id2label")
"""Entries of a configuration that decide no output here."""


@dataclass(frozen=True)
class Family:
    """A family of models."""

    model: str
    """Class of transformers that builds it."""
    config: str
    """Class of its configuration."""
    tokenizer: str
    """Class of its tokenizer; a checkpoint of BLIP-2 alone would get GPT-2's."""
    vision: Callable[[Mapping[str, Any]], Vision]
    """Function of a configuration that returns the dimensions of the image encoder."""
    text: str = "text_config"
    """Part of the configuration that describes the text encoder."""
    positions: int = 512
    """Tokens of a text where the configuration has no `max_position_embeddings`."""
    reserved: int = 0
    """Positions that no token takes; RoBERTa's begin behind that of the padding."""
    pad: int | None = 0
    """Token of the padding where the configuration has none; None where a mask is not needed."""
    scale: str | None = "logit_scale"
    """Tensor with the logarithm of the logit scale; None for a model without one."""


def family_of(config: Any) -> Family | None:
    """Return the family of a `config.json`; None for any other model.

    Raises:
        ConfigError: For a model of a family without vectors of images and texts.
    """
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    family = FAMILIES.get(str(kind))
    if family is None:
        return None
    given = config.get("architectures")
    classes = given if isinstance(given, list) and given else [family.model]
    if family.model not in classes:
        raise ConfigError(
            f"clip.model: a {classes[0]} of transformers (model_type {kind}) has no vectors of "
            f"images and texts to compare; choose a checkpoint of {family.model}"
        )
    return family


def vision_of(name: str, config: Mapping[str, Any]) -> Vision:
    """Return the dimensions of the image encoder of a model of transformers.

    Args:
        name: Name of the model, for errors.
        config: Content of its `config.json`.

    Raises:
        ConfigError: If it cannot be built or split; says why.
    """
    family = family_of(config)
    if family is None:
        raise ConfigError(f"clip.model: {name} is of no family of transformers that is known")
    if not find_spec("transformers"):
        raise ConfigError(
            f"clip.model: {name} is a {family.model} of transformers; install it with "
            "`pip install abs-pipeline[transformers]`"
        )
    try:
        return family.vision(config)
    except (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError, AttributeError) as e:
        raise ConfigError(f"clip.model: {name} has sizes that do not fit together ({e})") from None


def context_length(config: Mapping[str, Any]) -> int:
    """Return the number of tokens that the text encoder reads, the first and last included."""
    family = FAMILIES[config["model_type"]]
    given = part(config, family.text).get("max_position_embeddings", family.positions)
    return int(given) - family.reserved


def padding(config: Mapping[str, Any]) -> int | None:
    """Return the token of the padding that is to be masked; None where the first end counts."""
    family = FAMILIES[config["model_type"]]
    if family.pad is None:
        return None
    given = part(config, family.text).get("pad_token_id")
    return family.pad if given is None else int(given)


def padded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that names the token of the padding where it was null.

    transformers builds a text encoder without one, and fails when it masks the padding.
    """
    family = FAMILIES[config["model_type"]]
    text = part(config, family.text)
    if family.pad is None or text.get("pad_token_id", family.pad) is not None:
        return dict(config)
    name = f"{family.text}_dict" if part(config, f"{family.text}_dict") is text else family.text
    return {**config, name: {**text, "pad_token_id": family.pad}}


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a configuration that decide the output, at every depth."""
    return {
        name: deciding(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in UNUSED
    }


def part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of a configuration; empty where all of it is the class's default.

    `NAME_dict` of older files overrules, in the families that had it.
    """
    older = config.get(f"{name}_dict") if config["model_type"] in OLDER else None
    given = config.get(name) if older is None else older
    return given if isinstance(given, Mapping) else {}


def _side(value: Any) -> int:
    """Return the side of a square size."""
    sides = {int(each) for each in value} if isinstance(value, list | tuple) else {int(value)}
    if len(sides) != 1 or min(sides) < 1:
        raise ValueError(f"{value!r} is not a square")
    return sides.pop()


def _patches(
    vision: Mapping[str, Any], side: int, patch: int, layers: int, width: int
) -> tuple[int, int, int, int]:
    """Return image size, patch size, layers and width, by a ViT's configuration or the default."""
    sides = _side(vision.get("image_size", side)), _side(vision.get("patch_size", patch))
    if sides[0] < sides[1]:
        raise ValueError(f"image_size {sides[0]} is less than patch_size {sides[1]}")
    return (
        *sides,
        int(vision.get("num_hidden_layers", layers)),
        int(vision.get("hidden_size", width)),
    )


def _altclip(config: Mapping[str, Any]) -> Vision:
    """Return OpenAI's ViT: windows enter its blocks as in CLIP."""
    size, patch, layers, width = _patches(part(config, "vision_config"), 224, 32, 12, 768)
    return Vision(size, patch, layers, int(config.get("projection_dim", 768)), width)


def _groupvit(config: Mapping[str, Any]) -> Vision:
    """Return the blocks of the first stage, behind which there is no grid any more.

    The group tokens are kept as a class token is. What follows, up to the mean over segments, is
    the pooling.
    """
    vision = part(config, "vision_config")
    size, patch, _, width = _patches(vision, 224, 16, 12, 384)
    depths = vision.get("depths", (6, 3, 3))
    groups = vision.get("num_group_tokens", (64, 8, 0))
    dim = int(config.get("projection_dim", 256))
    return Vision(size, patch, int(depths[0]), dim, width, int(groups[0]), "segments")


def _blip2(config: Mapping[str, Any]) -> Vision:
    """Return the ViT: windows enter its blocks; the queries read all tokens that leave the last."""
    size, patch, layers, width = _patches(part(config, "vision_config"), 224, 14, 39, 1408)
    dim = int(config.get("image_text_hidden_size", 256))
    queries = int(config.get("num_query_tokens", 32))
    return Vision(size, patch, layers, dim, width, pooling="queries", queries=queries)


ALIGN: dict[str, Any] = {
    "image_size": 600,
    "width_coefficient": 2.0,
    "depth_coefficient": 3.1,
    "depth_divisor": 8,
    "kernel_sizes": (3, 3, 5, 3, 5, 5, 3),
    "out_channels": (16, 24, 40, 80, 112, 192, 320),
    "depthwise_padding": (),
    "strides": (1, 2, 2, 2, 1, 2, 1),
    "num_block_repeats": (1, 2, 2, 3, 3, 4, 1),
    "hidden_dim": 2560,
    "pooling_type": "mean",
}
"""Values of transformers where a configuration of ALIGN's EfficientNet has none."""


def _align(config: Mapping[str, Any]) -> Vision:
    """Return the blocks of an EfficientNet behind its last stride, whose maps are the grid."""
    vision = ALIGN | dict(part(config, "vision_config"))
    if vision["pooling_type"] != "mean":
        raise ValueError(f"pooling_type {vision['pooling_type']!r}, not mean")
    size = _side(vision["image_size"])
    grid, number, strides, widths = (size - 2) // 2 + 1, 0, list[int](), list[int]()
    for stage, repeats in enumerate(vision["num_block_repeats"]):
        for repeat in range(math.ceil(vision["depth_coefficient"] * repeats)):
            stride = int(vision["strides"][stage]) if repeat == 0 else 1
            if stride != 1:
                kernel = int(vision["kernel_sizes"][stage])
                padding = 2 * (kernel // 2) - (number not in vision["depthwise_padding"])
                grid = (grid + padding - kernel) // stride + 1
            strides.append(stride)
            widths.append(_filters(vision, vision["out_channels"][stage]))
            number += 1
    if not 1 <= grid <= vision["hidden_dim"]:
        raise ValueError(f"a map of {grid} x {grid} that is not averaged as a whole")
    behind = next((i for i, each in enumerate(reversed(strides)) if each != 1), len(strides))
    if behind < 1:
        raise ValueError("no block behind the last stride")
    width = widths[-2] if len(widths) > 1 else widths[-1]
    return Vision(
        size,
        size // grid,
        behind,
        widths[-1],
        width,
        prefix=0,
        pooling="mean",
        blocks="convolutions",
        cells=grid,
    )


def _filters(vision: Mapping[str, Any], channels: int) -> int:
    """Round a number of channels as EfficientNet does: to the divisor, at most 10% down."""
    divisor, wanted = vision["depth_divisor"], channels * vision["width_coefficient"]
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return int(rounded + divisor if rounded < 0.9 * wanted else rounded)


FAMILIES = {
    "align": Family("AlignModel", "AlignConfig", "BertTokenizerFast", _align, scale="temperature"),
    "altclip": Family(
        "AltCLIPModel",
        "AltCLIPConfig",
        "XLMRobertaTokenizerFast",
        _altclip,
        positions=514,
        reserved=2,
        pad=1,
    ),
    "groupvit": Family(
        "GroupViTModel", "GroupViTConfig", "CLIPTokenizerFast", _groupvit, positions=77, pad=None
    ),
    "blip-2": Family(
        "Blip2ForImageTextRetrieval",
        "Blip2Config",
        "BertTokenizerFast",
        _blip2,
        text="qformer_config",
        scale=None,
    ),
}
"""Families by `model_type`."""
