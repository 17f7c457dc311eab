"""The demo's CLIP: a standard open_clip model, small enough to be trained on two CPU cores.

`Towers` computes the same embeddings as open_clip from the same weights, but faster, and returns
the intermediate values that training needs. It computes the last vision block for the class token
only, as no other output of that block is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from safetensors.torch import save_file
from torch import Tensor

from pipeline.demo.tokenizer import (
    CONTEXT_LENGTH,
    MERGES_FILE,
    learn_merges,
    load_tokenizer,
    write_merges,
)
from pipeline.demo.training_data import SIDE, caption_corpus

CORPUS = 1500
"""Number of birds whose captions the vocabulary is learned from."""
TRAINED_CONTEXT = 32
"""Number of text positions that are trained.

No caption is longer. Later positions keep their initial values, and no token attends to them.
"""


def open_clip_config(vocabulary: int) -> dict[str, object]:
    """Return the contents of the model folder's `open_clip_config.json`."""
    vision = {"image_size": SIDE, "patch_size": 8, "width": 192, "layers": 4, "head_width": 32}
    text = {"context_length": CONTEXT_LENGTH, "vocab_size": vocabulary}
    text |= {"width": 128, "heads": 4, "layers": 2}
    model = {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text}
    half = [0.5, 0.5, 0.5]
    preprocess = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def write_architecture(folder: Path) -> None:
    """Write the model folder without weights: the vocabulary and the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    write_merges(folder / MERGES_FILE, learn_merges(caption_corpus(CORPUS)))
    config = open_clip_config(load_tokenizer(folder).vocab_size)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def new_model(folder: Path) -> open_clip.CLIP:
    """Build a model with random weights from the configuration in `folder`."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    return open_clip.CLIP(**config)


def run_block(
    block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None = None, queries: int | None = None
) -> Tensor:
    """Compute `block(x)[:, :queries]` for x of (batch, tokens, width).

    Attention is written as two matrix products, which have a faster backward pass on a CPU.
    """
    attention, tokens = block.attn, block.ln_1(x)
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    q = F.linear(tokens[:, :queries], weight[:width], bias[:width])
    kv = F.linear(tokens, weight[width:], bias[width:])
    q = q.view(*q.shape[:2], heads, -1).transpose(1, 2)
    k, v = kv.view(*kv.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)
    scores = (q * attention.head_dim**-0.5) @ k.transpose(-1, -2)
    pooled = (scores if mask is None else scores + mask).softmax(-1).to(v.dtype) @ v
    x = x[:, :queries] + attention.out_proj(pooled.transpose(1, 2).flatten(2))
    y: Tensor = x + block.mlp(block.ln_2(x))
    return y


def class_attention(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Compute the class token's attention to patches in `block`: (batch, patches).

    `x` of (batch, tokens, width) is the input of the block. Mean over the heads.
    """
    attention, tokens = block.attn, block.ln_1(x)
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    q = F.linear(tokens[:, 0], weight[:width], bias[:width]).view(len(x), heads, -1)
    k = F.linear(tokens, weight[width:-width], bias[width:-width]).view(*x.shape[:2], heads, -1)
    scores = torch.einsum("bhd,bthd->bht", q * attention.head_dim**-0.5, k)
    return scores.float().softmax(-1)[:, :, 1:].mean(1)


class Encoded(NamedTuple):
    """Embeddings of views and texts, and the inputs of the scaffold losses."""

    views: Tensor
    """(n, dim) unit vectors"""
    texts: Tensor
    """(m, dim) unit vectors"""
    patches: Tensor
    """(n, patches, dim) patch tokens before the last block, projected, as unit vectors"""
    attention: Tensor
    """(n, patches) class token's attention in the last but one block"""


class Towers(torch.nn.Module):
    """Both encoders of an `open_clip.CLIP`, with the forward pass that training uses."""

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor, texts: Tensor) -> Encoded:
        """Encode (n, 3, side, side) pixels and (m, context) tokens."""
        visual = self.clip.visual
        x = visual._embeds(pixels)
        *blocks, last_but_one, last = visual.transformer.resblocks
        for block in blocks:
            x = run_block(block, x)
        attention = class_attention(last_but_one, x)
        x = run_block(last_but_one, x)
        patches = F.normalize(visual.ln_post(x[:, 1:]) @ visual.proj, dim=-1)
        pooled = visual.ln_post(run_block(last, x, queries=1)[:, 0])
        views = F.normalize(pooled @ visual.proj, dim=-1)
        return Encoded(views, self.texts(texts), patches, attention)

    def texts(self, tokens: Tensor) -> Tensor:
        """Encode (m, context) tokens as unit vectors (m, dim); uses the trained positions only.

        Attention is causal, so that padding after the end of a text has no influence.
        """
        clip, length = self.clip, TRAINED_CONTEXT
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
        for block in clip.transformer.resblocks:
            x = run_block(block, x, clip.attn_mask[:length, :length])
        ends = clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)]
        return F.normalize(ends @ clip.text_projection, dim=-1)


def export(clip: open_clip.CLIP, folder: Path) -> None:
    """Write the weights in half precision, in the format that open_clip loads."""
    save_file(
        {name: value.half().contiguous() for name, value in clip.state_dict().items()},
        str(folder / "open_clip_model.safetensors"),
    )
