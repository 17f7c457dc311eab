"""Kernels refuse what has no meaning with a ValueError that says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image

from pipeline.kernels import draws, geometry, sampling
from pipeline.kernels.feature_crops import encode_windows, prompt_windows, resize_windows
from pipeline.kernels.image_prompts import prompt_box
from pipeline.kernels.matching import Descriptions, cross_align, soft_match

VISUAL = VisionTransformer(32, 8, width=16, layers=2, heads=2, mlp_ratio=2.0, output_dim=4)
TOKENS = torch.randn(17, 16)
IMAGE = Image.new("RGB", (4, 4))
LABELS = torch.tensor([0, 2])
WHOLE = torch.tensor([[0, 0, 4, 4]])
TEXTS = Descriptions.from_rows(torch.eye(3, 4), torch.tensor([0, 1, 1]), 2)
CROPS = torch.eye(4)[None]


def windows(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows)


CALLS: dict[str, Callable[[], Any]] = {
    "layer 2 is not one of 2": lambda: encode_windows(VISUAL, TOKENS, WHOLE, 2),
    "layer -3 is not one of 2": lambda: encode_windows(VISUAL, TOKENS, WHOLE, -3),
    "unknown prompt 'blot'": lambda: prompt_box(IMAGE, (0, 0, 2, 2), "blot", 1, 1),  # type: ignore[arg-type]
    "unknown prompt 'blur'": lambda: prompt_windows(TOKENS, WHOLE, "blur"),  # type: ignore[arg-type]
    "tokens of shape (16, 16)": lambda: resize_windows(TOKENS[1:], WHOLE),
    "windows of shape (4,)": lambda: resize_windows(TOKENS, WHOLE[0]),
    "windows of shape (1, 4)": lambda: resize_windows(TOKENS, WHOLE.float()),
    "leaves the grid of 4 x 4": lambda: resize_windows(TOKENS, windows([0, 0, 4, 5])),
    "a window is empty": lambda: prompt_windows(TOKENS, windows([2, 0, 2, 4]), "mask"),
    "k 0 and": lambda: sampling.top_patches(torch.rand(9), 0, 1.0),
    "temperature 0": lambda: sampling.top_patches(torch.rand(9), 3, 0),
    "unknown mode 'crop'": lambda: geometry.clip_view(5, 5, 4, "crop"),
    "unknown rule 'near'": lambda: geometry.token_places(
        torch.tensor([0]), 2, 2, geometry.whole_view(2), "near"
    ),
    "unknown rule 'whole'": lambda: draws.share_range(5, 0.5, 0.9, "whole"),  # type: ignore[arg-type]
    "temperature 0.0": lambda: soft_match(CROPS, TEXTS, 0.0),
    "features of shape (4, 4)": lambda: soft_match(CROPS[0], TEXTS, 1.0),
    "features of shape (1, 4, 3)": lambda: soft_match(CROPS[..., :3], TEXTS, 1.0),
    "weights of shape (1, 3)": lambda: soft_match(CROPS, TEXTS, 1.0, torch.ones(1, 3)),
    "one label for each class": lambda: cross_align(CROPS[:, 0], CROPS, CROPS[0], TEXTS, 1.0, 1.0),
    "one label a row, from 0 to 1": lambda: Descriptions.from_rows(
        torch.eye(2), torch.tensor([0, 2]), 2
    ),
}


@pytest.mark.parametrize("message", list(CALLS))
def test_what_has_no_meaning_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CALLS[message]()
