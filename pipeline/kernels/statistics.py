"""Accuracy statistics over images: confidence intervals, calibration, and paired comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 10_000
"""Resamples of a bootstrap."""
TAILS = (0.025, 0.975)
"""Quantiles that bound a 95 % interval."""
Z = NormalDist().inv_cdf(TAILS[1])
"""Standard errors from a mean to the end of its 95 % interval, about 1.96."""


def wilson(successes: int, count: int, z: float = Z) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion.

    Args:
        successes: Number of successes.
        count: Number of observations.
        z: Normal quantile; the default gives 95 %.

    Returns:
        Lower and upper bound; (0, 1) without observations.
    """
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    scale = 1 + z * z / count
    center = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def bootstrap(successes: int, count: int, seed: int = 0) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of a proportion, from the 2.5th to the 97.5th.

    A resample of observations that are right or wrong matters only by its number of right ones,
    which is binomial.

    Args:
        successes: Number of successes.
        count: Number of observations.
        seed: Seed of numpy's generator.

    Returns:
        Lower and upper bound; (0, 1) without observations, and of no width if all are equal.
    """
    import numpy as np

    if count == 0:
        return 0.0, 1.0
    drawn = np.random.default_rng(seed).binomial(count, successes / count, RESAMPLES)
    low, high = np.quantile(drawn / count, TAILS)
    return float(low), float(high)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Compute the expected calibration error over bins of equal width.

    Args:
        confidence: Confidence of each prediction in [0, 1], (n,).
        correct: Whether each prediction is correct, (n,).
        bins: Number of bins.

    Returns:
        Mean distance of confidence and accuracy, each bin weighed by its number of predictions.
    """
    import numpy as np

    places = np.minimum((confidence * bins).astype(int), bins - 1)
    distances = np.bincount(places, weights=confidence - correct, minlength=bins)
    return float(np.abs(distances).sum() / len(confidence))


@dataclass(frozen=True)
class Paired:
    """Comparison of two classifiers, A and B, over the same images."""

    images: int
    """Number of images."""
    both: int
    """Images that both classify correctly."""
    only_a: int
    """Images that only A classifies correctly."""
    only_b: int
    """Images that only B classifies correctly."""
    difference: float
    """Accuracy of A minus accuracy of B."""
    low: float
    """Lower bound of the difference's 95 % interval, from a bootstrap of pairs."""
    high: float
    """Upper bound of the difference's 95 % interval."""
    p: float
    """p-value of McNemar's exact two-sided test of equal accuracy."""

    @property
    def neither(self) -> int:
        """Images that neither classifies correctly."""
        return self.images - self.both - self.only_a - self.only_b


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Paired:
    """Compare two classifiers over the same images.

    Args:
        a: Whether A classifies each image correctly, bool (n,).
        b: Whether B does, bool (n,).
        seed: Seed of the bootstrap.
    """
    import numpy as np

    count = len(a)
    both, only_a, only_b = (int(x.sum()) for x in (a & b, a & ~b, b & ~a))
    # A resample matters only by these counts, which are multinomial.
    shares = np.array([only_a, only_b, count - only_a - only_b]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, TAILS)
    difference = (only_a - only_b) / count
    return Paired(
        count, both, only_a, only_b, difference, float(low), float(high), mcnemar(only_a, only_b)
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Compute the exact two-sided p-value of McNemar's test.

    Args:
        only_a: Images that only A classifies correctly.
        only_b: Images that only B classifies correctly.

    Returns:
        Probability of a split at least as uneven if both directions are equally likely.
    """
    count, least = only_a + only_b, min(only_a, only_b)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        for k in range(least + 1)
    ]
    tail = sum(math.exp(log - count * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)
