"""Tiny models of transformers with random weights, in its own layout: ALIGN, AltCLIP, GroupViT and
BLIP-2, with image processors like the published ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from open_clip.tokenizer import bytes_to_unicode
from safetensors.torch import save_file
from torch import nn
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import (
    EfficientNetImageProcessorPil,
)

SIDE = 40
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!"
BERT = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 130,
}
VIT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}


@dataclass(frozen=True)
class Family:
    """A family: its configuration, image processor and dimensions."""

    config: dict[str, Any]
    processor: Callable[..., Any]
    preprocess: dict[str, Any]
    layers: int
    prefix: int
    grid: int
    width: int = 32
    queries: int = 1
    text: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "align": Family(
        {
            "model_type": "align",
            "architectures": ["AlignModel"],
            "projection_dim": 32,
            "temperature_init_value": 0.05,
            "vision_config": {
                "image_size": SIDE,
                "kernel_sizes": [3, 3, 5],
                "in_channels": [32, 16, 24],
                "out_channels": [16, 24, 30],
                "strides": [2, 1, 2],
                "num_block_repeats": [1, 1, 3],
                "depth_coefficient": 1.0,
                "width_coefficient": 1.0,
                "expand_ratios": [1, 6, 6],
                "hidden_dim": 64,
            },
            "text_config": BERT,
        },
        EfficientNetImageProcessorPil,
        {
            "image_processor_type": "EfficientNetImageProcessor",
            "size": {"height": 48, "width": 48},
            "crop_size": {"height": SIDE, "width": SIDE},
            "do_center_crop": True,
            "resample": 2,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "do_normalize": False,
            "include_top": False,
        },
        layers=2,
        prefix=0,
        grid=5,
    ),
    "altclip": Family(
        {
            "model_type": "altclip",
            "architectures": ["AltCLIPModel"],
            "projection_dim": 24,
            "vision_config": {**VIT, "num_hidden_layers": 3},
            "text_config": {**BERT, "max_position_embeddings": 132, "project_dim": 20},
        },
        CLIPImageProcessorPil,
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": SIDE},
            "crop_size": {"height": SIDE, "width": SIDE},
        },
        layers=3,
        prefix=1,
        grid=5,
    ),
    "groupvit": Family(
        {
            "model_type": "groupvit",
            "architectures": ["GroupViTModel"],
            "projection_dim": 24,
            "projection_intermediate_dim": 48,
            "vision_config": {
                **VIT,
                "depths": [3, 2, 1],
                "num_group_tokens": [8, 4, 0],
                "num_output_groups": [8, 4, 4],
            },
            "text_config": {
                **BERT,
                "max_position_embeddings": 77,
                "vocab_size": 514,
                "bos_token_id": 512,
                "eos_token_id": 513,
            },
        },
        CLIPImageProcessorPil,
        {
            "feature_extractor_type": "CLIPFeatureExtractor",
            "size": SIDE,
            "crop_size": SIDE,
        },
        layers=3,
        prefix=8,
        grid=5,
    ),
    "blip-2": Family(
        {
            "model_type": "blip-2",
            "architectures": ["Blip2ForImageTextRetrieval"],
            "image_text_hidden_size": 24,
            "image_token_index": 89,
            "num_query_tokens": 5,
            "vision_config": {**VIT, "num_hidden_layers": 3},
            "qformer_config": {
                **BERT,
                "num_hidden_layers": 4,
                "encoder_hidden_size": 32,
                "use_qformer_text_input": True,
            },
        },
        BlipImageProcessorPil,
        {
            "image_processor_type": "BlipImageProcessor",
            "size": {"height": SIDE, "width": SIDE},
        },
        layers=3,
        prefix=1,
        grid=5,
        queries=5,
    ),
}


def processor(name: str) -> Any:
    """Return transformers' own image processor of a family, by Pillow."""
    kept = {k: v for k, v in FAMILIES[name].preprocess.items() if not k.endswith("_type")}
    return FAMILIES[name].processor(**kept)


def built(name: str, seed: int = 1) -> Any:
    """Return transformers' own model of a family, with seeded random weights."""
    config = FAMILIES[name].config
    kind = config["architectures"][0]
    described = {"Blip2ForImageTextRetrieval": "Blip2Config"}.get(
        kind, kind.replace("Model", "Config")
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = getattr(transformers, described).from_dict(json.loads(json.dumps(config)))
        model = getattr(transformers, kind)(made)
        _fill(model)
    return model.float().eval()


def _fill(model: nn.Module) -> None:
    """Give weights sizes at which every part counts, and norms statistics of their own."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 0:
                continue
            if weight.ndim == 1:
                weight.normal_(1.0 if "orm" in name and name.endswith("weight") else 0.0, 0.2)
            else:
                inputs = weight[0].numel() if "embedding" not in name else 4
                weight.normal_(0.0, inputs**-0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                buffer.normal_(0.0, 0.2)
        if isinstance(model, transformers.AlignModel):  # else nothing of an image gets through
            model.vision_model.train()
            for norm in model.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.momentum = 0.9
            for _ in range(2):
                model.vision_model(torch.randn(8, 3, SIDE, SIDE))


def write(folder: Path, name: str, **changes: Any) -> Any:
    """Write a model to a folder in transformers' layout; return transformers' own.

    Args:
        folder: Folder to make.
        name: Name of a family.
        changes: Entries of the configuration.
    """
    family = FAMILIES[name]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(family.config | changes))
    (folder / "preprocessor_config.json").write_text(json.dumps(family.preprocess))
    model = built(name)
    tensors = {n: v.detach().clone().contiguous() for n, v in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    tokenizer(name).save_pretrained(folder)
    return model


def tokenizer(name: str) -> Any:
    """Return a tokenizer of the class of a family, with single letters as its words."""
    if name == "altclip":
        pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u2581", *LETTERS]
        vocabulary = [(piece, -1.0 if piece != "\u2581" else -0.5) for piece in pieces]
        return transformers.XLMRobertaTokenizer(vocab=vocabulary)
    if name == "groupvit":
        letters = [*bytes_to_unicode().values()]
        words = [*letters, *(f"{letter}</w>" for letter in letters)]
        words += ["<|startoftext|>", "<|endoftext|>"]
        return transformers.CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[])
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    words = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
