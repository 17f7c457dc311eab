"""The demo's CLIP: an ordinary open_clip model, small enough to be trained on two CPU cores.

`Towers` runs the same weights as open_clip does and to the same values, only quicker and with what
training looks at on the way. The last vision block is computed for the class token alone: nothing
else of it is ever used.
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

from pipeline.demo.lessons import SIDE, caption_corpus
from pipeline.demo.words import (
    CONTEXT_LENGTH,
    MERGES_FILE,
    learn_merges,
    load_tokenizer,
    write_merges,
)

CORPUS = 1500
TRAINED_CONTEXT = 32
"""No caption is longer; later positions keep their initial values and no token looks at them."""


def open_clip_config(vocabulary: int) -> dict[str, object]:
    """The model folder's `open_clip_config.json`."""
    vision = {"image_size": SIDE, "patch_size": 8, "width": 192, "layers": 4, "head_width": 32}
    text = {"context_length": CONTEXT_LENGTH, "vocab_size": vocabulary}
    text |= {"width": 128, "heads": 4, "layers": 2}
    model = {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text}
    half = [0.5, 0.5, 0.5]
    preprocess = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def write_architecture(folder: Path) -> None:
    """Write all of the model folder but the weights: the vocabulary and the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    write_merges(folder / MERGES_FILE, learn_merges(caption_corpus(CORPUS)))
    config = open_clip_config(load_tokenizer(folder).vocab_size)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def new_model(folder: Path) -> open_clip.CLIP:
    """A model with random weights, as the folder's configuration has it."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    return open_clip.CLIP(**config)


def through(
    block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None = None, queries: int | None = None
) -> Tensor:
    """`block(x)[:, :queries]` for x of (batch, tokens, width).

    Attention is spelt out as two matrix products, whose gradient is quicker on a CPU.
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
    """Where the class token looks in `block`, mean of heads: (batch, patches)."""
    attention, tokens = block.attn, block.ln_1(x)
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    q = F.linear(tokens[:, 0], weight[:width], bias[:width]).view(len(x), heads, -1)
    k = F.linear(tokens, weight[width:-width], bias[width:-width]).view(*x.shape[:2], heads, -1)
    scores = torch.einsum("bhd,bthd->bht", q * attention.head_dim**-0.5, k)
    return scores.float().softmax(-1)[:, :, 1:].mean(1)


class Encoded(NamedTuple):
    """Unit vectors of views (n, dim) and texts (m, dim), and what the scaffold losses look at."""

    views: Tensor
    texts: Tensor
    patches: Tensor
    """(n, patches, dim) the patch tokens that enter the last block, as unit vectors"""
    glance: Tensor
    """(n, patches) the class token's attention in the block before the last"""


class Towers(torch.nn.Module):
    """An `open_clip.CLIP`, run for training."""

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor, texts: Tensor) -> Encoded:
        """Encode (n, 3, side, side) pixels and (m, context) tokens."""
        visual = self.clip.visual
        x = visual._embeds(pixels)
        *blocks, glancing, last = visual.transformer.resblocks
        for block in blocks:
            x = through(block, x)
        glance = class_attention(glancing, x)
        x = through(glancing, x)
        patches = F.normalize(visual.ln_post(x[:, 1:]) @ visual.proj, dim=-1)
        views = F.normalize(visual.ln_post(through(last, x, queries=1)[:, 0]) @ visual.proj, dim=-1)
        return Encoded(views, self.texts(texts), patches, glance)

    def texts(self, tokens: Tensor) -> Tensor:
        """(m, context) tokens to unit vectors; what follows a text's end cannot change them."""
        clip, length = self.clip, TRAINED_CONTEXT
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
        for block in clip.transformer.resblocks:
            x = through(block, x, clip.attn_mask[:length, :length])
        ends = clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)]
        return F.normalize(ends @ clip.text_projection, dim=-1)


def export(clip: open_clip.CLIP, folder: Path) -> None:
    """Write the weights in half precision, in the form open_clip loads."""
    save_file(
        {name: value.half().contiguous() for name, value in clip.state_dict().items()},
        str(folder / "open_clip_model.safetensors"),
    )
