"""The rule of settling for one image, class by class and look by look, in plain numbers."""

from __future__ import annotations

import numpy as np
from scipy import stats

ENDS = (8, 10, 12, 15, 18, 22, 27, 33, 41, 51, 63, 78, 97, 121, 151, 188)
"""Draws after which a decision may be taken, as long as there are fewer than N."""


def correlation(places: np.ndarray) -> np.ndarray:
    """Correlation of the draws of an image whose ends are left, top, right, bottom: (N, N)."""
    extent = np.tile([np.ptp(places[:, axis::2]) for axis in (0, 1)], 2)
    count = len(places)
    alike = np.empty((count, count))
    for i, j in np.ndindex(count, count):
        apart = np.sqrt((((places[i] - places[j]) / extent) ** 2).sum())
        alike[i, j] = 0.98 * np.exp(-2 * apart) + 0.02 * (i == j)
    return alike


def weights(alike: np.ndarray, n: int) -> np.ndarray:
    """Weights of the first n draws in the best linear prediction of the mean of all.

    The error's variance is least under weights that sum to 1: a system with one multiplier.
    """
    system = np.ones((n + 1, n + 1))
    system[:n, :n], system[n, n] = alike[:n, :n], 0
    found: np.ndarray = np.linalg.solve(system, [*alike[:n].mean(axis=1), 1])[:n]
    return found


def variance(draws: np.ndarray, alike: np.ndarray) -> float:
    """Estimate of the variance of a draw from n of them, by generalised least squares."""
    inverse, ones = np.linalg.inv(alike), np.ones(len(draws))
    centered = draws - (ones @ inverse @ draws) / (ones @ inverse @ ones)
    return float(centered @ inverse @ centered) / (len(draws) - 1)


def error(alike: np.ndarray, n: int) -> float:
    """Variance of the prediction's error in estimated variances of a draw.

    The larger of two: where draws correlate as assumed, and where they do not correlate.
    """
    difference = np.full(len(alike), -1 / len(alike))
    difference[:n] += weights(alike, n)
    estimated = sum(variance(draw, alike[:n, :n]) for draw in np.eye(n))
    return float(max(difference @ alike @ difference, difference @ difference / estimated))


def bound(scores: np.ndarray, others: np.ndarray, count: int, places: np.ndarray | None) -> float:
    """Bound the probability that the class in front is another one in the end.

    Args:
        scores: Class scores of the draws so far, (n, classes).
        others: Class scores apart from draws, (classes,).
        count: Draws in the end.
        places: Ends of all draws, (count, 4); None if the decision of infinitely many is meant.
    """
    n, classes = scores.shape
    if n == count and places is not None:
        return 0.0
    alike = np.eye(n) if places is None else correlation(places)
    means = weights(alike, n) @ scores if places is not None else scores.mean(axis=0)
    squared = 1 / n if places is None else error(alike, n)
    sums = others + count * means
    front = int(np.argmax(sums))
    tails = 0.0
    for c in set(range(classes)) - {front}:
        spread = np.sqrt(variance(scores[:, front] - scores[:, c], alike[:n, :n]) * squared)
        tails += float(stats.t.sf((sums[front] - sums[c]) / count / spread, n - 1))
    return min(1.0, max(1, sum(end < count for end in ENDS)) * tails)


def stop(
    scores: np.ndarray, others: np.ndarray, places: np.ndarray, p: float
) -> tuple[int, float, int]:
    """Return how many draws an image takes, the bound at the stop, and the class it is given.

    Args:
        scores: Class scores of all draws, (count, classes).
        others: Class scores apart from draws, (classes,).
        places: Ends of all draws, (count, 4).
        p: Bound at which it stops.
    """
    count = len(scores)
    for n in [*(end for end in ENDS if end < count), count]:
        found = bound(scores[:n], others, count, places)
        if found <= p:
            break
    means = weights(correlation(places), n) @ scores[:n]
    return n, found, int(np.argmax(others + count * means))
