"""Choose boxes that overlap little with each other."""

from __future__ import annotations

import torch
from torch import Tensor


def distinct_boxes(boxes: Tensor, overlap: float, most: int) -> Tensor:
    """Keep boxes in turn, each if it overlaps little with all that are kept.

    Args:
        boxes: Half-open boxes of each image, integers (images, boxes, 4).
        overlap: Largest share that two kept boxes' intersection may have of their union.
        most: Most boxes of an image that are kept.

    Returns:
        bool (images, boxes).
    """
    corners, ends = boxes[..., :2], boxes[..., 2:]
    areas = (ends - corners).prod(dim=2)
    kept = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for i in range(boxes.shape[1]):
        sides = torch.minimum(ends[:, :i], ends[:, i, None]) - torch.maximum(
            corners[:, :i], corners[:, i, None]
        )
        shared = sides.clamp(min=0).prod(dim=2).double()
        close = shared / (areas[:, :i] + areas[:, i, None] - shared) > overlap
        free = kept.sum(dim=1) < most
        kept[:, i] = free & ~(close & kept[:, :i]).any(dim=1)
    return kept
