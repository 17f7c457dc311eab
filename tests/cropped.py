"""Images, attention and token grids to crop with; no image is square, nor are its sides alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import cropping
from pipeline.views import CropsConfig, TokenGrid, WindowsConfig

LANDSCAPE = SimpleNamespace(width=500, height=375)
PORTRAIT = SimpleNamespace(width=210, height=333)
IMAGES = [LANDSCAPE, PORTRAIT]
GRIDS = [
    TokenGrid(tokens=tokens, pixels=pixels, mode=mode)
    for tokens in (7, 14, 16)
    for pixels, mode in ((tokens, "squash"), (224, "shortest"))
]
"""The whole image and CLIP's view of it, for each number of tokens."""
GRID = GRIDS[2]
"""The whole image on 14 x 14."""
OFFICIAL = CropsConfig()


def attention_map(seed: int = 0) -> Tensor:
    """Uneven, of 14 x 14 patches."""
    values = np.random.default_rng(seed).gamma(0.5, 0.02, 196)
    return torch.from_numpy(values.astype(np.float32))


def only(row: int, column: int) -> Tensor:
    """Attention to one patch of 14 x 14."""
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
    """Of `attention_map()` unless told otherwise."""
    seen = attention_map() if attention is None else attention
    return cropping.feature_crops(image, seen, uniforms, config, WindowsConfig(**windows), grid)
