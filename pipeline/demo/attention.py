"""The demo's attention model: a timm vision transformer initialised from the demo's CLIP tower.

`timm.create_model("local-dir:...", pretrained=True)` loads its folder.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.demo.training_data import GRID, SIDE

ARCHITECTURE = "vit_base_patch16_clip_224"
"""timm's name for the architecture of CLIP's tower; `model_arguments` overrides its sizes."""
HEADS = 6
LAYERS = 4
"""Number of blocks of the CLIP tower."""
DEPTH = 4
"""Number of blocks of this model."""


def model_arguments(depth: int = DEPTH) -> dict[str, object]:
    """Return the arguments that give timm's architecture the demo's sizes."""
    sizes = {"img_size": SIDE, "patch_size": 8, "embed_dim": 192, "num_heads": HEADS}
    return {**sizes, "depth": depth, "num_classes": 0}


def timm_config() -> dict[str, object]:
    """Return the contents of the model folder's `config.json`."""
    half = [0.5, 0.5, 0.5]
    resize = {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}
    preprocess = {"input_size": [3, SIDE, SIDE], "mean": half, "std": half, **resize}
    shape = {"architecture": ARCHITECTURE, "num_classes": 0, "num_features": 192}
    pretrained = {**preprocess, "num_classes": 0}
    return {**shape, "model_args": model_arguments(), "pretrained_cfg": pretrained}


def squashed(image: Image.Image) -> NDArray[np.uint8]:
    """Resize the whole picture to the model's input, ignoring its aspect ratio: (80, 80, 3)."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def from_clip(folder: Path, depth: int = DEPTH) -> VisionTransformer:
    """Build a timm model with the first `depth` vision blocks of the CLIP in `folder`."""
    model = timm.create_model(
        ARCHITECTURE, pretrained=False, dynamic_img_size=True, **model_arguments(depth)
    )
    model.load_state_dict(timm_weights(load_file(folder / "open_clip_model.safetensors"), depth))
    return model


def timm_weights(clip: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Rename the vision tower of an open_clip state dict to timm's parameter names.

    Leaves out the projection and the blocks after the first `depth`; values become float32.
    """
    renamed = {
        "class_embedding": "cls_token",
        "positional_embedding": "pos_embed",
        "conv1.": "patch_embed.proj.",
        "transformer.resblocks.": "blocks.",
        "ln_pre.": "norm_pre.",
        "ln_post.": "norm.",
        "ln_": "norm",
        "attn.in_proj_": "attn.qkv.",
        "attn.out_proj.": "attn.proj.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    weights = {}
    for name, value in clip.items():
        if name.startswith("visual.") and name != "visual.proj":
            name = name.removeprefix("visual.")
            for old, new in renamed.items():
                name = name.replace(old, new)
            weights[name] = value.float()
    for name in ("cls_token", "pos_embed"):
        weights[name] = weights[name].view(1, -1, weights[name].shape[-1])
    late = tuple(f"blocks.{i}." for i in range(depth, LAYERS))
    return {name: value for name, value in weights.items() if not name.startswith(late)}


@torch.no_grad()
def class_attention(model: VisionTransformer, pixels: Tensor) -> Tensor:
    """Compute the class token's attention in every block: (n, blocks, rows, columns).

    Mean over the heads; `pixels` are (n, 3, 80, 80) from -1 to 1.
    """
    rows: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        q, k, _ = output.view(*output.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = q[:, :, :1] @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        rows.append(scores.softmax(-1)[:, :, 0, 1:].mean(1))

    hooks = [block.attn.qkv.register_forward_hook(keep) for block in model.blocks]
    model.forward_features(pixels)
    for hook in hooks:
        hook.remove()
    return torch.stack(rows, 1).view(len(pixels), len(rows), GRID, GRID)


def object_ratio(attention: Tensor, masks: Tensor, top: int = 10) -> float:
    """Compare how much of the `top` patches the object covers with the mean over all patches.

    Returns the ratio of the two shares of covered area, 1.0 for patches chosen at random.
    Attention is (n, rows, columns), masks are (n, height, width).
    """
    cover = F.adaptive_avg_pool2d(masks[:, None].float(), attention.shape[-1])[:, 0].flatten(1)
    best = attention.flatten(1).topk(top, 1).indices
    return float(cover.gather(1, best).mean() / cover.mean())


def export(model: VisionTransformer, folder: Path) -> None:
    """Write the model folder, with weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(timm_config(), indent=2) + "\n")
    save_file(
        {name: value.half().contiguous() for name, value in model.state_dict().items()},
        str(folder / "model.safetensors"),
    )
