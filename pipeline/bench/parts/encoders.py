"""Comparisons of the models alone, on preprocessed tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.bench import plain
from pipeline.bench.case import VIT, Case, N
from pipeline.bench.timing import Row, compare
from pipeline.models.precision import best


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare the models alone, on preprocessed tensors."""
    clip, bare = case.clip, case.plain.clip.visual
    pixels = torch.randint(0, 256, (N, 3, 224, 224), dtype=torch.uint8)
    normalised = clip._normalise(pixels)
    batches = normalised.split(plain.BATCH)
    yield compare(
        f"{N} raw crops, against forward passes of open_clip",
        lambda: clip.encode_images(pixels),
        lambda: [bare(batch) for batch in batches],
        pairs,
    )
    for each in (clip, case.auto_clip):
        yield _share_of_products(each, pixels, pairs)
    yield _windows(case, pixels, normalised, pairs)
    maps = case.workers["attention"].maps
    timm_vit = timm.create_model(VIT).eval().to(clip.device)
    yield compare(
        "attention of 16 images, against a forward pass of timm",
        lambda: maps.attention(pixels[:16]),
        lambda: timm_vit(normalised[:16]),
        pairs,
    )
    auto, reason = best("auto")
    yield compare(
        f"{N} raw crops, {auto} against float32",
        lambda: case.auto_clip.encode_images(pixels),
        lambda: clip.encode_images(pixels),
        pairs,
        reason,
    )


def _windows(case: Case, pixels: Tensor, normalised: Tensor, pairs: int) -> Row:
    """Compare the feature crops of an image with a forward pass of it."""
    clip, bare, rng = case.clip, case.plain.clip.visual, np.random.default_rng(0)
    last = len(clip._tower.blocks) - 1
    sides = rng.choice([7, 9, 11, 13], N)
    corners = (rng.random((2, N)) * (15 - sides)).astype(int)
    ends = [np.zeros(N, int), *corners, *(corners + sides)]
    windows = torch.from_numpy(np.stack(ends, axis=1))
    tokens = clip.tokens_before(pixels[:1], last)
    row = compare(
        f"{N} feature crops in the last block, against one forward pass of open_clip",
        lambda: clip.encode_windows(tokens, windows, last, "crop", 2.0),
        lambda: bare(normalised[:1]),
        2 * pairs,
    )
    return replace(row, note=f"{1 / row.ratio:.3f} of a forward pass")


def _share_of_products(clip: Any, pixels: Tensor, pairs: int) -> Row:
    """Compare encoding crops with the four F.linear of every block but the last, alone."""
    blocks = clip._tower.blocks[:-1]
    count, length = min(clip.batch_size, len(pixels)), 1 + clip._grid**2
    mlp, attention = blocks[0].mlp, blocks[0].attn
    layers = (
        (attention.in_proj_weight, attention.in_proj_bias),
        (attention.out_proj.weight, attention.out_proj.bias),
        (mlp.c_fc.weight, mlp.c_fc.bias),
        (mlp.c_proj.weight, mlp.c_proj.bias),
    )
    inputs = [torch.randn(count, length, w.shape[1], device=clip.device).to(w) for w, _ in layers]
    whole = pixels[: len(pixels) // count * count]

    def products() -> None:
        for _ in range(len(whole) // count * len(blocks)):
            for tokens, (weight, bias) in zip(inputs, layers, strict=True):
                F.linear(tokens, weight, bias)

    dtype = str(attention.in_proj_weight.dtype).removeprefix("torch.")
    what = f"{len(whole)} raw crops, {dtype}, against the four F.linear of their blocks alone"
    row = compare(what, lambda: clip.encode_images(whole), products, pairs)
    return replace(row, note="share of the products' rate")
