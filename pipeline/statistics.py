"""Figures over images, with their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 10_000
"""Of a bootstrap."""
TAILS = (0.025, 0.975)
"""Between these lie 95 %."""


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default; (0, 1) without observations."""
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    scale = 1 + z * z / count
    center = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def bootstrap(successes: int, count: int, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a share by resampling: from the 2.5th to the 97.5th percentile.

    Of a resample of observations that are right or wrong only the number of right ones matters,
    and that is binomial. (0, 1) without observations; without width where all are alike.
    """
    import numpy as np

    if count == 0:
        return 0.0, 1.0
    drawn = np.random.default_rng(seed).binomial(count, successes / count, RESAMPLES)
    low, high = np.quantile(drawn / count, TAILS)
    return float(low), float(high)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean distance of confidence and accuracy, over equal bins.

    confidence, correct: (n,), the first in [0, 1]. Bins are weighed by how many fall into them.
    """
    import numpy as np

    places = np.minimum((confidence * bins).astype(int), bins - 1)
    distances = np.bincount(places, weights=confidence - correct, minlength=bins)
    return float(np.abs(distances).sum() / len(confidence))


@dataclass(frozen=True)
class Paired:
    """Two classifiers over the same images."""

    images: int
    both: int
    """Right with both."""
    only_a: int
    only_b: int
    difference: float
    """Accuracy of A less that of B."""
    low: float
    """The difference's 95 % interval, by resampling images in pairs."""
    high: float
    p: float
    """McNemar's exact two-sided test: that neither is right more often where they disagree."""

    @property
    def neither(self) -> int:
        """Wrong with both."""
        return self.images - self.both - self.only_a - self.only_b


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Paired:
    """Compare two classifiers, (n,) booleans: which images each gets right."""
    import numpy as np

    count = len(a)
    both, only_a, only_b = (int(x.sum()) for x in (a & b, a & ~b, b & ~a))
    # Of a resample only these counts matter, and they are multinomial.
    shares = np.array([only_a, only_b, count - only_a - only_b]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, TAILS)
    difference = (only_a - only_b) / count
    return Paired(
        count, both, only_a, only_b, difference, float(low), float(high), mcnemar(only_a, only_b)
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p of so many disagreements each way, were both ways as likely."""
    count, least = only_a + only_b, min(only_a, only_b)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        for k in range(least + 1)
    ]
    tail = sum(math.exp(log - count * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)
