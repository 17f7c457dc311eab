"""Images, attention maps and token grids for tests of crops; no image is square."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.views import draw as cropping
from pipeline.views.config import CropsConfig, TokenGrid, WindowsConfig

LANDSCAPE = SimpleNamespace(width=500, height=375)
PORTRAIT = SimpleNamespace(width=210, height=333)
IMAGES = [LANDSCAPE, PORTRAIT]
GRIDS = [
    TokenGrid(tokens=tokens, pixels=pixels, mode=mode)
    for tokens in (7, 14, 16)
    for pixels, mode in ((tokens, "squash"), (224, "shortest"))
]
"""Grids over the whole image and over CLIP's view of it, for each number of tokens a side."""
GRID = GRIDS[2]
"""Grid of 14 x 14 tokens over the whole image."""
OFFICIAL = CropsConfig()
WIDTHS = {
    (7, 0.5): {3: "1/4", 5: "1/2", 7: "1/4"},
    (7, 0.6): {5: "2/3", 7: "1/3"},
    (14, 0.5): {7: "1/6", 9: "1/3", 11: "1/3", 13: "1/6"},
    (14, 0.6): {9: "2/5", 11: "2/5", 13: "1/5"},
    (16, 0.5): {9: "2/7", 11: "2/7", 13: "2/7", 15: "1/7"},
    (16, 0.6): {9: "1/6", 11: "1/3", 13: "1/3", 15: "1/6"},
}
"""Expected share of each width of square windows, by tokens a side and alpha, for beta 0.9."""


def attention_map(seed: int = 0) -> Tensor:
    """Draw an uneven attention map of 14 x 14 patches: float32 (196,)."""
    values = np.random.default_rng(seed).gamma(0.5, 0.02, 196)
    return torch.from_numpy(values.astype(np.float32))


def only(row: int, column: int) -> Tensor:
    """Return attention to a single patch of 14 x 14: (196,)."""
    attention = torch.zeros(196)
    attention[14 * row + column] = 1
    return attention


def feature_crops(
    uniforms: Tensor,
    grid: TokenGrid = GRID,
    image: Any = LANDSCAPE,
    config: CropsConfig = OFFICIAL,
    attention: Tensor | None = None,
    **windows: Any,
) -> Tensor:
    """Draw feature crops, from `attention_map()` by default."""
    seen = attention_map() if attention is None else attention
    return cropping.feature_crops(image, seen, uniforms, config, WindowsConfig(**windows), grid)
