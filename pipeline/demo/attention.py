"""The demo's attention model: a timm vision transformer that starts as the demo's CLIP tower.

Its folder is one that `timm.create_model("local-dir:...", pretrained=True)` loads.
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

from pipeline.demo.lessons import GRID, SIDE

ARCHITECTURE = "vit_base_patch16_clip_224"
"""timm's name for the arrangement of CLIP's tower; its sizes are all overridden."""
HEADS = 6
LAYERS = 4
"""The blocks of the CLIP tower."""
DEPTH = 4
"""The blocks of this model."""


def model_arguments(depth: int = DEPTH) -> dict[str, object]:
    """What makes timm's architecture ours."""
    sizes = {"img_size": SIDE, "patch_size": 8, "embed_dim": 192, "num_heads": HEADS}
    return {**sizes, "depth": depth, "num_classes": 0}


def timm_config() -> dict[str, object]:
    """The model folder's `config.json`."""
    half = [0.5, 0.5, 0.5]
    resize = {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}
    given = {"input_size": [3, SIDE, SIDE], "mean": half, "std": half, **resize, "num_classes": 0}
    shape = {"architecture": ARCHITECTURE, "num_classes": 0, "num_features": 192}
    return {**shape, "model_args": model_arguments(), "pretrained_cfg": given}


def squashed(image: Image.Image) -> NDArray[np.uint8]:
    """The whole picture at the model's size, whatever its shape: (80, 80, 3)."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def from_clip(folder: Path, depth: int = DEPTH) -> VisionTransformer:
    """A timm model whose first `depth` blocks are those of a CLIP folder's tower."""
    model = timm.create_model(
        ARCHITECTURE, pretrained=False, dynamic_img_size=True, **model_arguments(depth)
    )
    model.load_state_dict(timm_weights(load_file(folder / "open_clip_model.safetensors"), depth))
    return model


def timm_weights(clip: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The vision tower of an open_clip state dict under timm's names, without the projection and
    the blocks past `depth`.
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
    """The class token's attention in every block, mean of heads: (n, blocks, rows, columns)."""
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
    """How much oftener the `top` patches lie on the object than a patch drawn at random.

    Attention is (n, rows, columns), masks (n, height, width). A patch lies on the object to the
    share of its area that the object covers.
    """
    cover = F.adaptive_avg_pool2d(masks[:, None].float(), attention.shape[-1])[:, 0].flatten(1)
    best = attention.flatten(1).topk(top, 1).indices
    return float(cover.gather(1, best).mean() / cover.mean())


def export(model: VisionTransformer, folder: Path) -> None:
    """Write the model folder, weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(timm_config(), indent=2) + "\n")
    save_file(
        {name: value.half().contiguous() for name, value in model.state_dict().items()},
        str(folder / "model.safetensors"),
    )
