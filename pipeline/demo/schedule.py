"""The learning rate of both trainings."""

from __future__ import annotations

import math


def rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """A linear warm-up, then half a cosine down to nothing."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
