"""The rule of settling for one image, class by class and look by look, in plain numbers."""

from __future__ import annotations

import numpy as np
from scipy import stats

ENDS = (8, 10, 12, 15, 18, 22, 27, 33, 41, 51, 63, 78, 97, 121, 151, 188)
"""Draws after which a decision may be taken, as long as there are fewer than N."""


def correlations(places: np.ndarray) -> list[np.ndarray]:
    """Correlation of the draws of an image under each law: smooth (as assumed), rough, none.

    Places are left, top, right and bottom ends; matrices are (N, N).
    """
    extent = np.tile([np.ptp(places[:, axis::2]) for axis in (0, 1)], 2)
    count = len(places)
    smooth, rough = np.empty((2, count, count))
    for i, j in np.ndindex(count, count):
        apart = 2 * np.sqrt((((places[i] - places[j]) / extent) ** 2).sum())
        alone = 0.02 * (i == j)
        smooth[i, j] = 0.98 * (1 + 3**0.5 * apart) * np.exp(-(3**0.5) * apart) + alone
        rough[i, j] = 0.98 * np.exp(-apart) + alone
    return [smooth, rough, np.eye(count)]


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


def residual(alike: np.ndarray) -> np.ndarray:
    """The matrix R of which x'Rx / (n - 1) is `variance`, from its values at pairs of draws."""
    one = np.eye(len(alike))
    found = np.empty_like(alike)
    for i, j in np.ndindex(*alike.shape):
        both, apart = variance(one[i] + one[j], alike), variance(one[i] - one[j], alike)
        found[i, j] = (len(alike) - 1) * (both - apart) / 4
    return found


def errors(laws: list[np.ndarray], n: int) -> list[float]:
    """Variance of the prediction's error under each law, in estimated variances of a draw."""
    difference = np.full(len(laws[0]), -1 / len(laws[0]))
    difference[:n] += weights(laws[0], n)
    found = []
    for law in laws:
        # the mean of x'Rx is that of its values at the columns of a root of the law
        root = np.linalg.cholesky(law[:n, :n])
        estimated = sum(variance(column, laws[0][:n, :n]) for column in root.T)
        found.append(float(difference @ law @ difference / estimated))
    return found


def half_width(laws: list[np.ndarray], n: int, p: float) -> float:
    """Half-width of the interval of the mean of all draws that the first n leave."""
    z = float(stats.norm.isf(p / sum(end < len(laws[0]) for end in ENDS)))
    root, found = residual(laws[0][:n, :n]), []
    for law, squared in zip(laws, errors(laws, n), strict=True):
        product = root @ law[:n, :n]
        freedom = np.trace(product) ** 2 / np.trace(product @ product)
        found.append((z + (z**3 + z) / 4 / freedom) * np.sqrt(squared))
    return max(found)


def order(places: np.ndarray, p: float) -> list[int]:
    """Take the draw that leaves the narrowest interval, again and again; then the rest."""
    laws, last = correlations(places), max(end for end in ENDS if end < len(places))
    taken = [int(np.argmax(np.round(laws[0].sum(axis=0), 9)))]
    while len(taken) < last:
        left = [draw for draw in range(len(places)) if draw not in taken]
        widths = []
        for draw in left:
            first = [*taken, draw, *(other for other in left if other != draw)]
            widths.append(
                half_width([law[np.ix_(first, first)] for law in laws], len(taken) + 1, p)
            )
        taken.append(left[int(np.argmin(np.round(widths, 9)))])
    return taken + [draw for draw in range(len(places)) if draw not in taken]


def bound(scores: np.ndarray, others: np.ndarray, count: int, places: np.ndarray | None) -> float:
    """Bound the probability that the class in front is another one in the end.

    Args:
        scores: Class scores of the draws so far, (n, classes).
        others: Class scores apart from draws, (classes,).
        count: Draws in the end.
        places: Ends of all draws in their order, (count, 4); None if the decision of infinitely
            many is meant.
    """
    n, classes = scores.shape
    if n == count and places is not None:
        return 0.0
    laws = [np.eye(n)] if places is None else correlations(places)
    means = weights(laws[0], n) @ scores if places is not None else scores.mean(axis=0)
    squared = 1 / n if places is None else max(errors(laws, n))
    sums = others + count * means
    front = int(np.argmax(sums))
    tails = 0.0
    for c in set(range(classes)) - {front}:
        spread = np.sqrt(variance(scores[:, front] - scores[:, c], laws[0][:n, :n]) * squared)
        tails += float(stats.t.sf((sums[front] - sums[c]) / count / spread, n - 1))
    return min(1.0, max(1, sum(end < count for end in ENDS)) * tails)


def stop(
    scores: np.ndarray, others: np.ndarray, places: np.ndarray, p: float
) -> tuple[int, float, int]:
    """Return how many draws an image takes, the bound at the stop, and the class it is given.

    Args:
        scores: Class scores of all draws in their order, (count, classes).
        others: Class scores apart from draws, (classes,).
        places: Ends of all draws in their order, (count, 4).
        p: Bound at which it stops.
    """
    count = len(scores)
    for n in [*(end for end in ENDS if end < count), count]:
        found = bound(scores[:n], others, count, places)
        if found <= p:
            break
    means = weights(correlations(places)[0], n) @ scores[:n]
    return n, found, int(np.argmax(others + count * means))
