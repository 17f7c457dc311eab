"""The demo's attention model: a timm vision transformer that starts as the demo's CLIP tower.

Its folder is one that `timm.create_model("local-dir:...", pretrained=True)` loads.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.demo.lessons import SIDE

ARCHITECTURE = "vit_base_patch16_clip_224"
"""timm's name for the arrangement of CLIP's tower; its sizes are all overridden."""
DEPTH = 4


def model_arguments(depth: int = DEPTH) -> dict[str, object]:
    """What makes timm's architecture ours."""
    return {
        "img_size": SIDE,
        "patch_size": 8,
        "embed_dim": 192,
        "depth": depth,
        "num_heads": 6,
        "num_classes": 0,
    }


def timm_config() -> dict[str, object]:
    """The model folder's `config.json`."""
    half = [0.5, 0.5, 0.5]
    pretrained = {
        "input_size": [3, SIDE, SIDE],
        "mean": half,
        "std": half,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "num_classes": 0,
    }
    return {
        "architecture": ARCHITECTURE,
        "num_classes": 0,
        "num_features": 192,
        "model_args": model_arguments(),
        "pretrained_cfg": pretrained,
    }


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
        if not name.startswith("visual.") or name == "visual.proj":
            continue
        name = name.removeprefix("visual.")
        for old, new in renamed.items():
            name = name.replace(old, new)
        if not name.startswith("blocks.") or int(name.split(".")[1]) < depth:
            weights[name] = (
                value.float().reshape(1, -1, value.shape[-1])
                if name in ("cls_token", "pos_embed")
                else value.float()
            )
    return weights


@torch.no_grad()
def class_attention(model: VisionTransformer, pixels: Tensor) -> Tensor:
    """The class token's attention to the patches in every block, mean of heads: (n, blocks, rows,
    columns).
    """
    rows: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        q, k, _ = output.unflatten(-1, (3, 6, -1)).permute(2, 0, 3, 1, 4)
        scores = q[:, :, :1] @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        rows.append(scores.softmax(-1)[:, :, 0, 1:].mean(1))

    hooks = [block.attn.qkv.register_forward_hook(keep) for block in model.blocks]
    model.forward_features(pixels)
    for hook in hooks:
        hook.remove()
    side = math.isqrt(rows[0].shape[-1])
    return torch.stack(rows, 1).unflatten(-1, (side, side))


def object_ratio(attention: Tensor, masks: Tensor, top: int = 10) -> float:
    """How much oftener the `top` patches lie on the object than a patch drawn at random: (n, rows,
    columns), (n, H, W) masks.

    A patch lies on the object to the share of its area that the object covers.
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
