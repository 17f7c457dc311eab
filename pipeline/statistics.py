"""Figures over images, with their uncertainty."""

from __future__ import annotations

import math


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default; (0, 1) without observations."""
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    scale = 1 + z * z / count
    center = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
