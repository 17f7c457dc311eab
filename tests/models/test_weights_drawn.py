"""Checkpoints drawn at random: the plain weights come out, or one line says why not."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import register_model
from timm.models.vision_transformer import _create_vision_transformer
from torch import Tensor, nn

from pipeline.core.errors import AbsError
from pipeline.models.attention.vit import _build
from pipeline.models.resolved import Resolved
from tests.helpers import small_models

CASES = 300
NAME = "vit_drawn_patch8_32"
SIZES = {"patch_size": 8, "img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}


def vit_drawn_patch8_32(pretrained: bool = False, **changes: Any) -> nn.Module:
    """A ViT small enough to be built a thousand times."""
    module: nn.Module = _create_vision_transformer(NAME, pretrained, **{**SIZES, **changes})
    return module


register_model(vit_drawn_patch8_32)

Tensors = dict[str, Tensor]

WRAPPERS = ("teacher", "ema", "state_dict", "model", "net", "model_state_dict", "encoder", "x")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "base_encoder.", "teacher.", "y.z.")
CONTAINERS: tuple[Callable[[Any], Any], ...] = (dict, OrderedDict, lambda v: defaultdict(dict, v))
BESIDE: dict[str, Any] = {
    "best_acc1": torch.tensor(3.0),
    "epoch": 7,
    "args": argparse.Namespace(arch="x"),
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(24)}}, "param_groups": [{"lr": 0.1}]},
    "ema_settings": {"decay": torch.tensor(0.99)},
    "history": [np.float64(0.5)],
}


def tensors_of(**changes: Any) -> Tensors:
    module = timm.create_model(NAME, **changes)
    small_models.fill(module, seed=3)
    return {name: value.detach() for name, value in module.named_parameters()}


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


def unfit(rng: np.random.Generator, plain: Tensors) -> Tensors:
    """Weights that are not those of the model, in one of many ways."""
    inner = [name for name in plain if not name.startswith("head")]
    name = str(rng.choice(inner))
    ways: dict[str, Callable[[], Tensors]] = {
        "missing": lambda: without(plain, name),
        "extra": lambda: {**plain, "blocks.0.attn.q_norm.weight": torch.ones(12)},
        "longer": lambda: {**plain, name: torch.cat([plain[name], plain[name]])},
        "flat": lambda: {**plain, "cls_token": plain["cls_token"].flatten()[:5]},
        "patch": lambda: tensors_of(patch_size=int(rng.choice([4, 16]))),
        "image": lambda: tensors_of(img_size=int(rng.choice([16, 40, 64]))),
        "depth": lambda: tensors_of(depth=int(rng.choice([1, 3]))),
        "width": lambda: tensors_of(embed_dim=48),
        "registers": lambda: tensors_of(reg_tokens=4),
        "int8": lambda: {key: (value * 50).to(torch.int8) for key, value in plain.items()},
        "one int": lambda: {**plain, name: plain[name].to(torch.int32)},
        "float8": lambda: {key: value.to(torch.float8_e5m2) for key, value in plain.items()},
        "complex": lambda: {**plain, name: plain[name].to(torch.complex64)},
        "sparse": lambda: {**plain, name: plain[name].to_sparse()},
        "meta": lambda: {**plain, name: plain[name].to("meta")},
    }
    return ways[str(rng.choice(list(ways)))]()


def wrapped(rng: np.random.Generator, tensors: Tensors) -> Any:
    """A checkpoint around tensors: prefixes, wrappers, and other things beside them."""
    content: Any = tensors
    for prefix in rng.choice(PREFIXES, int(rng.integers(3)), replace=False):
        content = {f"{prefix}{name}": value for name, value in content.items()}
    for wrapper in rng.choice(WRAPPERS, int(rng.integers(3)), replace=False):
        content = {str(wrapper): CONTAINERS[rng.integers(3)](content)}
        for name in rng.choice(list(BESIDE), int(rng.integers(3)), replace=False):
            content[str(name)] = BESIDE[str(name)]
    if rng.random() < 0.2:
        content = {**content, "student": {name: value + 1 for name, value in tensors.items()}}
    return CONTAINERS[rng.integers(3)](content)


def drawn(seed: int, folder: Path, plain: Tensors) -> tuple[Path, bool]:
    """Write a checkpoint; return its file and whether it holds the plain weights, readable."""
    rng = np.random.default_rng(seed)
    file = folder / f"{seed}{rng.choice(['.pth', '.pt', '.bin', '.safetensors', ''])}"
    fits = rng.random() < 0.5
    tensors = plain if fits else unfit(rng, plain)
    if fits and rng.random() < 0.3:
        tensors = {n: v for n, v in plain.items() if not n.startswith("head")}
        tensors |= {"head.mlp.weight": torch.zeros(3), "decoder_embed.bias": torch.zeros(2)}
    if fits and rng.random() < 0.3:
        save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    else:
        content = wrapped(rng, tensors) if fits else CONTAINERS[rng.integers(2)](tensors)
        torch.save(content, file)
    if rng.random() < 0.2:
        whole = file.read_bytes()
        file.write_bytes(whole[: int(rng.integers(len(whole)))])
        fits = False
    return file, fits


def outcome(file: Path, plain: Tensors) -> str:
    """`same`, or the error; AssertionError for other values."""
    try:
        module, _ = _build(Resolved(NAME, {}, file))
    except AbsError as error:
        return str(error)
    loaded = dict(module.named_parameters())
    for name in plain:
        assert name.startswith("head") or torch.equal(loaded[name], plain[name]), name
    return "same"


@pytest.fixture
def plain() -> Tensors:
    return tensors_of()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_drawn_checkpoints_give_the_plain_weights_or_one_line(
    part: int, tmp_path: Path, plain: Tensors
) -> None:
    for seed in range(part, CASES, 4):
        file, fits = drawn(seed, tmp_path, plain)
        found = outcome(file, plain)
        assert (found == "same") == fits, (seed, found)
        assert "\n" not in found
        file.unlink()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_precision_are_widened_or_rounded_once(
    dtype: torch.dtype, tmp_path: Path, plain: Tensors
) -> None:
    other = {name: value.to(dtype) for name, value in plain.items()}
    torch.save({"model": other}, tmp_path / "w.pth")
    expected = {name: value.float() for name, value in other.items()}
    assert outcome(tmp_path / "w.pth", expected) == "same"


def main(cases: int, folder: Path) -> None:
    """Try more cases by hand: `python -m tests.models.test_weights_drawn CASES FOLDER`."""
    tensors, counts = tensors_of(), {True: 0, False: 0}
    for seed in range(cases):
        file, fits = drawn(seed, folder, tensors)
        found = outcome(file, tensors)
        assert (found == "same") == fits, (seed, found)
        assert "\n" not in found
        counts[fits] += 1
        file.unlink()
    print(f"{counts[True]} loaded as the plain weights, {counts[False]} refused in one line")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
