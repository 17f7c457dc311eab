"""Small models with random weights, in the folder layouts of open_clip and timm, and as modules.

Grids can be chosen, unlike those of the demo's models. Attention is uneven enough that the order of
patches does not depend on rounding.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.core.runtime import Runtime
from pipeline.datasets.images import Images
from pipeline.kernels.feature_crops import Sequences, finish
from pipeline.models.attention.vit_source import VitSource
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.source import ClipSource
from pipeline.models.config import ClipConfig, VitConfig

VOCABULARY = 512 + 2
"""Size of a vocabulary without merges: bytes, bytes at the end of a word, start and end token."""


CPU = Runtime(device="cpu", batch_size=2)


def places(folder: Path, weights_dir: Path | None = None) -> tuple[Paths, HashCache]:
    """Return paths with the store in `folder` and a folder of weights, and a hash cache."""
    weights = str(weights_dir) if weights_dir else None
    return Paths(artifacts=str(folder / "store"), weights=weights), HashCache(
        folder / "sha256.json"
    )


def clip_source(
    folder: Path, model: str, weights: str | None = None, weights_dir: Path | None = None
) -> ClipSource:
    """Return the source of a CLIP by its settings, with store and hash cache in `folder`."""
    return ClipSource(ClipConfig(model=model, weights=weights), *places(folder, weights_dir))


def vit_source(
    folder: Path, model: str, weights: str | None = None, weights_dir: Path | None = None
) -> VitSource:
    """Return the source of an attention model, with store and hash cache in `folder`."""
    return VitSource(VitConfig(model=model, weights=weights), *places(folder, weights_dir))


def fill(module: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Replace every weight by seeded noise, scaled to keep activations near 1."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.as_tensor(_noise(rng, name, tuple(weight.shape), gain)))


def _noise(rng: np.random.Generator, name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    noise = np.asarray(rng.standard_normal(shape))
    if len(shape) < 2:
        return noise * 0.1 + (1.0 if name.endswith("weight") or "gamma" in name else 0.0)
    if name.endswith(("embedding", "pos_embed", "token", "embedding.weight")):
        return noise * 0.5
    scale = gain if "qkv" in name or "in_proj" in name else 1.0
    return noise * scale / math.sqrt(math.prod(shape[1:]))


def clip_config(side: int, patch: int, **vision: Any) -> dict[str, Any]:
    """Return the configuration of a CLIP of `side // patch` tokens a side, with QuickGELU."""
    return {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": side,
            "patch_size": patch,
            "width": 32,
            "layers": 3,
            "head_width": 16,
            **vision,
        },
        "text_cfg": {
            "context_length": 64,
            "vocab_size": VOCABULARY,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }


def clip_of_words() -> dict[str, Any]:
    """Return the configuration of a small CLIP with the image size and words of published ones."""
    config = clip_config(224, 16)
    config["text_cfg"] |= {"context_length": 77, "vocab_size": 49408}
    return config


def write_clip(
    folder: Path, side: int, patch: int, vision: dict[str, Any] | None = None, **preprocessing: str
) -> None:
    """Write a CLIP of `side // patch` tokens a side; `vision` extends its vision configuration."""
    config = clip_config(side, patch, **vision or {})
    preprocess = {
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        **preprocessing,
    }
    folder.mkdir(parents=True)
    (folder / "merges.txt.gz").write_bytes(gzip.compress(b"#no merges"))
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    module = open_clip.CLIP(**config)
    fill(module, seed=1, gain=1.5)
    save_file(_contiguous(module), folder / "open_clip_model.safetensors")


def write_repository(folder: Path, cache: Path, name: str) -> Path:
    """Copy a folder's files into a cache of the Hugging Face Hub; return the snapshot folder.

    The snapshot contains symbolic links to blobs.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("c0ffee" * 6 + "abcd")
    for part in (snapshot, repository / "blobs", repository / "refs"):
        part.mkdir(parents=True)
    (repository / "refs" / "main").write_text(snapshot.name)
    for path in folder.iterdir():
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    return snapshot


class Holder(nn.Module):
    """Module that can be scripted and only holds parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def write_torchscript(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as a TorchScript archive, with dots in names as submodules."""
    top = Holder()
    for name, value in tensors.items():
        *path, last = name.split(".")
        holder: nn.Module = top
        for part in path:
            if part not in dict(holder.named_children()):
                holder.add_module(part, Holder())
            holder = holder.get_submodule(part)
        holder.register_parameter(last, nn.Parameter(value, requires_grad=False))
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(top).save(str(file))


def write_vit(folder: Path, architecture: str, **model_args: Any) -> None:
    """Write a timm ViT of an architecture, with the sizes in `model_args`."""
    args = {"num_classes": 0, **model_args}
    side = args["img_size"]
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": args,
        "pretrained_cfg": {
            "input_size": [3, side, side],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "num_classes": 0,
        },
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    module = timm.create_model(architecture, **args)
    fill(module, seed=2, gain=1.5)
    save_file(_contiguous(module), folder / "model.safetensors")


def _contiguous(module: nn.Module) -> dict[str, Tensor]:
    kept = {name for name, _ in module.named_parameters()}
    state = module.state_dict()
    return {name: value.contiguous() for name, value in state.items() if name in kept}


def clip_parts(folder: Path) -> tuple[nn.Module, dict[str, Any], dict[str, Any], SimpleTokenizer]:
    """Load a CLIP folder: module, model and preprocessing configuration, tokenizer."""
    described = json.loads((folder / "open_clip_config.json").read_text())
    config = described["model_cfg"]
    module = open_clip.CLIP(**config)
    module.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    length = config["text_cfg"]["context_length"]
    tokenizer = SimpleTokenizer(str(folder / "merges.txt.gz"), context_length=length)
    return module, config, described["preprocess_cfg"], tokenizer


def vit_module(folder: Path) -> nn.Module:
    """Load the timm module of a folder."""
    config = json.loads((folder / "config.json").read_text())
    module = timm.create_model(config["architecture"], **config["model_args"])
    module.load_state_dict(load_file(folder / "model.safetensors"))
    module.pretrained_cfg = config["pretrained_cfg"]
    return module


def finished(clip: ClipModel, tokens: Tensor, layer: int) -> Tensor:
    """Apply the blocks from `layer` on to tokens (n, tokens, width), as unit vectors."""
    with torch.inference_mode():
        return F.normalize(finish(clip._tower, Sequences(tokens), layer), dim=-1)


def assert_attention(maps: Any, images: Images, expected: list[list[list[float]]]) -> None:
    """Check shape, dtype and values of attention maps; `expected` is by image, layer and patch."""
    found = maps.attention(maps.read(images, slice(0, len(expected))))
    exact = np.array(expected)
    assert found.dtype == np.float32
    assert found.shape == (*exact.shape[:2], maps.grid, maps.grid)
    assert maps.layers == exact.shape[1]
    assert np.abs(found.reshape(exact.shape) - exact).max() <= 1e-5
    assert exact.std(axis=2).min() > 2e-4
