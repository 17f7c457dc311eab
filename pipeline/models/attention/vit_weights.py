"""Read the weights of a timm ViT from a file, and say in words where they do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pipeline.core.errors import AbsError
from pipeline.models import weights
from pipeline.models.initial_values import shapes_alone
from pipeline.models.resolved import LOCAL, Resolved

UNUSED = re.compile(
    r"((dino|ibot|projection)_)?head|head_dist|fc|prototypes|projector|predictor"
    r"|masked_embed|decoder_.*"
)
"""First parts of names that attention does not need: classifiers, training heads, MAE's decoder."""

PATCH, IMAGE = "patch size", "image size"
RGB = 3
TABLE = "relative_position_bias_table"
"""Last part of the name of BEiT's position tables, of (2 grid - 1)^2 rows and up to 3 more."""


class Unresampled(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """Context in which timm may rename and reshape weights, but not resample them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse to interpolate."""
        if func is F.interpolate:
            raise ValueError(f"the file is for another {PATCH} or {IMAGE} than the model")
        return func(*args, **(kwargs or {}))


def read(file: Path, model: Resolved) -> weights.Found:
    """Find the weights of a model in a file, with heads that timm's strict loading accepts.

    Raises:
        AbsError: If timm cannot build the model, or the file holds no weights, or those of a model
            of other sizes.
    """
    expected = _expected(model.name)
    needed = {name: value for name, value in expected.items() if not _unused(name)}
    found = weights.find(file, weights.VIT, needed)
    if reason := _mismatch(model, found.tensors, needed):
        place = f" ({found.place})" if found.place else ""
        raise AbsError(f"attention weights {file}{place} do not fit: {reason}")
    return replace(found, tensors=_with_heads(found.tensors, expected))


def _expected(name: str) -> dict[str, Tensor]:
    """Return the tensors of a timm model without their values."""
    try:
        with shapes_alone():
            state: dict[str, Tensor] = timm.create_model(name).state_dict()
    except Exception as error:  # of many types, for a folder's configuration
        reason = weights.short_reason(error)
        raise AbsError(f"attention.model: timm cannot build {name}: {reason}") from None
    return state


def chosen_sizes(model: Resolved) -> set[str]:
    """Return the sizes that a folder's config.json chooses for its architecture, by timm's names.

    timm resamples weights to them. All other weights have to have the sizes of their model.
    """
    if not model.name.startswith(LOCAL):
        return set()
    config = model.architecture
    chosen = {"img_size", "patch_size"} & set(config.get("model_args") or {})
    usual = timm.get_pretrained_cfg(str(config.get("architecture")).partition(".")[0])
    size = (config.get("pretrained_cfg") or config).get("input_size")
    differs = usual and size and list(size) != list(usual.input_size)
    return chosen | ({"img_size"} if differs else set())


def _unused(name: str) -> bool:
    """Return whether attention does not need a tensor."""
    return UNUSED.fullmatch(name.split(".")[0]) is not None


def _with_heads(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace the heads of a file by those of the model: zeros where the file's own do not fit.

    timm then loads strictly, so that no other tensor can be missing.
    """
    kept = {name: value for name, value in tensors.items() if not _unused(name)}
    heads = {name: value for name, value in expected.items() if _unused(name)}
    for name, wanted in heads.items():
        own = tensors.get(name)
        fits = own is not None and own.shape == wanted.shape
        kept[name] = own if fits and own is not None else torch.zeros(wanted.shape)
    return kept


def _mismatch(model: Resolved, tensors: dict[str, Tensor], needed: dict[str, Tensor]) -> str:
    """Say in words how weights differ from a model; nothing where only names may differ."""
    theirs, ours, chosen = _measures(tensors), _measures(needed), chosen_sizes(model)
    free = {IMAGE: bool(chosen), PATCH: "patch_size" in chosen}
    shared = [what for what in ours if what in theirs and not free.get(what)]
    differ = {what: (theirs[what], ours[what]) for what in shared if theirs[what] != ours[what]}
    words = [f"the file has {what} {a}, the model {b}" for what, (a, b) in differ.items()]
    return "; ".join([*words, *_sibling(model.name, differ)])


def _sibling(name: str, differ: Mapping[str, tuple[int, int]]) -> list[str]:
    """Suggest timm's model of the same name but for patch and image size, if there is one."""
    other = name.partition(".")[0]
    for what, before in ((PATCH, "patch"), (IMAGE, "_")):
        their, our = differ.get(what, (0, 0))
        other = re.sub(rf"(?<={before}){our}(?![0-9])", str(their), other)
    known = differ.keys() <= {PATCH, IMAGE} and other != name.partition(".")[0]
    return [f"it may be of attention.model={other}"] if known and timm.is_model(other) else []


def _measures(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return width, depth, register tokens, patch and image size of a plain ViT, by its tensors."""
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    found = {"depth": len(blocks)} if blocks else {}
    if "cls_token" in tensors:
        registers = [tensors[n] for n in ("reg_token", "register_tokens") if n in tensors]
        found["width"] = tensors["cls_token"].shape[-1]
        found["register tokens"] = registers[0].shape[1] if registers else 0
    patches = tensors.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 4 and patches.shape[1] == RGB:
        found[PATCH] = patches.shape[-1]
        if grid := _grid(tensors):
            found[IMAGE] = grid * found[PATCH]
    return found


def _grid(tensors: Mapping[str, Tensor]) -> int:
    """Return the patches along a side that positions are made for; 0 if they do not tell."""
    positions = tensors.get("pos_embed")
    if positions is not None and positions.ndim == 3:
        return isqrt(positions.shape[1])  # other tokens are too few for another whole square
    rows = [len(value) for name, value in tensors.items() if name.endswith(TABLE) and value.ndim]
    return (isqrt(rows[0]) + 1) // 2 if rows else 0
