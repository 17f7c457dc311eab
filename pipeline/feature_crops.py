"""Crops inside CLIP's token grid (section 3.3): windows resized back to the full grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_windows(tokens: Tensor, windows: Tensor) -> Tensor:
    """The token sequences of an image's feature crops (Eq. 7, then bicubic resizing).

    tokens: (1 + grid * grid, width) entering a block, the class token first.
    windows: integers (n, 4), left, top, right, bottom, half-open, inside the grid.
    Returns (n, 1 + grid * grid, width) of the tokens' dtype: the image's own class token, then
    the window stretched over the grid (bicubic, a = -0.75, align_corners=False).
    """
    grid = round((tokens.shape[0] - 1) ** 0.5)
    image = tokens[1:].reshape(grid, grid, -1).permute(2, 0, 1)[None]
    stretched = []
    for left, top, right, bottom in windows.tolist():
        part = image[:, :, top:bottom, left:right]
        part = F.interpolate(part, size=(grid, grid), mode="bicubic", align_corners=False)
        stretched.append(part.flatten(2).transpose(1, 2))
    class_token = tokens[:1].expand(len(stretched), 1, -1)
    return torch.cat([class_token, torch.cat(stretched)], dim=1)
