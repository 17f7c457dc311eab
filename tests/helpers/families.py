"""Tiny models of the families that open_clip serves, with random weights, in open_clip's layout.

Image encoders of timm are built from timm's own classes, with the options of the published models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
from safetensors.torch import save_file
from timm.layers import LayerNorm
from timm.models import _registry as registry
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from pipeline.models.clip import timm_towers
from pipeline.models.clip.timm_towers import TimmTower
from tests.helpers import small_models

SIDE, PATCH, WIDTH, LAYERS = 40, 8, 32, 3
TIMM = "tiny_tower"
"""Name under which timm builds the image encoder of the family at hand."""

SIZES = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": LAYERS, "num_heads": 2}
STEM = partial(
    HybridEmbed,
    backbone=ConvStem(3, 3, (8, 16, WIDTH), (4, 2, 1), (4, 2, 1), padding=0, act_layer=nn.GELU),
    proj=False,
)
EVA02 = {
    "qkv_fused": False,
    "mlp_ratio": 4 * 2 / 3,
    "swiglu_mlp": True,
    "scale_mlp": True,
    "scale_attn_inner": True,
    "use_rot_pos_emb": True,
    "ref_feat_shape": (7, 7),
}
PE = {
    "global_pool": "map",
    "attn_type": "rope",
    "use_pre_transformer_norm": True,
    "use_rot_pos_emb": True,
    "ref_feat_shape": (5, 5),
    "rope_grid_offset": 1.0,
    "rope_grid_indexing": "xy",
    "attn_pool_num_heads": 4,
    "attn_pool_mlp_ratio": 4.0,
    "norm_layer": partial(LayerNorm, eps=1e-5),
}
SIGLIP_TEXT = {
    "context_length": 64,
    "vocab_size": 64,
    "hf_tokenizer_name": "tiny/siglip",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}


ROBERTA = {
    "model_type": "roberta",
    "vocab_size": small_models.VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 80,
    "type_vocab_size": 1,
    "pad_token_id": 0,
}
"""Configuration of a text encoder of transformers."""


@dataclass(frozen=True)
class Family:
    """A family: how its image encoder is built, and its configurations."""

    build: Callable[..., nn.Module] | None = None
    """Class of timm; None for open_clip's own ViT."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that class."""
    vision: dict[str, Any] = field(default_factory=dict)
    """Additions to `vision_cfg`."""
    text: dict[str, Any] = field(default_factory=dict)
    """Additions to `text_cfg`."""
    model: dict[str, Any] = field(default_factory=dict)
    """Additions to the configuration."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """Additions to the preprocessing."""

    @property
    def config(self) -> dict[str, Any]:
        """Configuration in open_clip's format."""
        config = small_models.clip_config(SIDE, PATCH)
        if self.build:
            config["vision_cfg"] = {"image_size": SIDE, "timm_model_name": TIMM, "timm_proj": None}
            config["custom_text"] = True
        config["vision_cfg"] |= self.vision
        config["text_cfg"] |= self.text
        return config | self.model

    @property
    def tower(self) -> TimmTower:
        """Dimensions for the table of timm's encoders."""
        prefix = int(self.options.get("class_token", True))
        return TimmTower(SIDE, PATCH, LAYERS, WIDTH, prefix, eva=self.build is Eva)


def squashed(filter_: str) -> dict[str, Any]:
    """Return the preprocessing of SigLIP and PE-Core."""
    half = [0.5] * 3
    return {"mean": half, "std": half, "interpolation": filter_, "resize_mode": "squash"}


MAP = {"class_token": False, "global_pool": "map"}
FAMILIES = {
    "siglip": Family(
        VisionTransformer,
        MAP,
        {"timm_pool": "map", "timm_proj": "none"},
        SIGLIP_TEXT,
        {"embed_dim": WIDTH, "init_logit_bias": -10, "quick_gelu": False},
        squashed("bicubic"),
    ),
    "siglip2-so400m": Family(
        VisionTransformer,
        {**MAP, "mlp_ratio": 3.7362, "act_layer": "gelu_tanh"},
        {"timm_pool": "map", "timm_proj": "none"},
        {**SIGLIP_TEXT, "mlp_ratio": 3.7362},
        {"embed_dim": WIDTH, "init_logit_bias": -10, "quick_gelu": False},
        squashed("bicubic"),
    ),
    "eva01": Family(Eva, {"mlp_ratio": 4.3637}, {"timm_pool": "token"}),
    "eva02": Family(Eva, EVA02, {"timm_pool": "token"}),
    "eva02-enormous": Family(Eva, {"use_post_norm": True}, {"timm_pool": "token"}),
    "pe-core": Family(
        Eva, PE, {"timm_pool": "map"}, {"context_length": 32}, preprocess=squashed("bilinear")
    ),
    "pe-core-gigantic": Family(
        Eva, {**PE, "class_token": False}, {"timm_pool": "map"}, preprocess=squashed("bilinear")
    ),
    "mobileclip-b": Family(
        VisionTransformer,
        {"embed_layer": STEM, "patch_size": 1, "no_embed_class": True},
        {"timm_pool": "token"},
        preprocess={"mean": [0] * 3, "std": [1] * 3, "interpolation": "bilinear"},
    ),
    "mobileclip2-l": Family(VisionTransformer, {"pre_norm": True}, {"timm_pool": "token"}),
    "gap": Family(
        VisionTransformer,
        {"class_token": False, "global_pool": "avg", "qkv_bias": False, "init_values": 0.5},
        {"timm_pool": "", "timm_proj": "linear"},
    ),
    "clipa": Family(
        vision={"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        text={"context_length": 32, "pool_type": "last", "no_causal_mask": True},
        preprocess={"interpolation": "bilinear", "resize_mode": "squash"},
    ),
    "metaclip2": Family(
        text={
            "hf_tokenizer_name": "tiny/xlm-v",
            "pool_type": "eos",
            "eos_id": 1,
            "vocab_size": 64,
        },
        model={"quick_gelu": False},
    ),
    "dfn": Family(preprocess={"resize_mode": "squash"}),
    "roberta": Family(
        text={
            "hf_model_name": "tiny/roberta",
            "hf_tokenizer_name": "tiny/roberta",
            "hf_pooler_type": "mean_pooler",
        },
        model={"quick_gelu": False},
    ),
    "mean": Family(vision={"pool_type": "avg"}),
    "coca": Family(
        vision={"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        text={"context_length": 76, "embed_cls": True, "output_tokens": True},
        model={
            "multimodal_cfg": {"context_length": 76, "width": 24, "heads": 2, "layers": 1},
            "custom_text": True,
        },
    ),
}


@contextmanager
def known(family: Family) -> Iterator[None]:
    """Make timm build the family's image encoder, and list it among those that can be cut."""

    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        ours = {k: v for k, v in options.items() if not k.startswith(("pretrained", "cache"))}
        assert family.build is not None
        built = family.build(**{**SIZES, **deepcopy(family.options), **ours})
        built.default_cfg = {}
        return built

    with (
        patch.dict(registry._model_entrypoints, {TIMM: build}),
        patch.dict(timm_towers.TOWERS, {TIMM: family.tower}),
    ):
        yield


def write(folder: Path, family: Family) -> nn.Module:
    """Write a model of a family to a folder in open_clip's layout; return open_clip's own.

    To be called where the family is `known`.
    """
    config = family.config
    small_models.write_clip(folder, SIDE, PATCH)
    described = json.loads((folder / "open_clip_config.json").read_text())
    described["model_cfg"], described["preprocess_cfg"] = (
        config,
        described["preprocess_cfg"] | family.preprocess,
    )
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    if config["text_cfg"].get("hf_tokenizer_name"):
        (folder / "merges.txt.gz").unlink()
        _write_tokenizer(folder, config["text_cfg"]["vocab_size"])
    if config["text_cfg"].get("hf_model_name"):
        (folder / "config.json").write_text(json.dumps(ROBERTA))
        config = deepcopy(config)
        config["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    module = built(config)
    small_models.fill(module, seed=1, gain=1.5)
    for name, buffer in module.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return module.eval()


def built(config: dict[str, Any]) -> nn.Module:
    """Build the module of a configuration, as open_clip's factory chooses its class."""
    config = deepcopy(config)
    custom = config.pop("custom_text", False) or config["text_cfg"].get("hf_model_name")
    if "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)


def _write_tokenizer(folder: Path, size: int) -> None:
    """Write a tokenizer of single letters, with an end token, that pads as SigLIP's does."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 "
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {c: i + 3 for i, c in enumerate(letters)}
    assert len(vocabulary) <= size
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.save_pretrained(folder)
