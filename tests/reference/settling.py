"""The rule of settling for one image, class by class and look by look, in plain numbers."""

from __future__ import annotations

import numpy as np
from scipy import stats


def bound(scores: np.ndarray, others: np.ndarray, count: int, forever: bool = False) -> float:
    """Bound the probability that the class in front is another one in the end.

    Args:
        scores: Class scores of the draws so far, (n, classes).
        others: Class scores apart from draws, (classes,).
        count: Draws in the end.
        forever: Whether the decision of infinitely many draws is meant.
    """
    n, classes = scores.shape
    if n == count and not forever:
        return 0.0
    sums = [others[c] + count * scores[:, c].mean() for c in range(classes)]
    front = int(np.argmax(sums))
    tails = 0.0
    for c in set(range(classes)) - {front}:
        sd = np.std(scores[:, front] - scores[:, c], ddof=1)
        error = count * sd * np.sqrt(1 / n - (0 if forever else 1 / count))
        tails += float(stats.t.sf((sums[front] - sums[c]) / error, n - 1))
    return min(1.0, max(1, len(range(8, count, 4))) * tails)


def stop(scores: np.ndarray, others: np.ndarray, count: int, p: float) -> tuple[int, float, int]:
    """Return how many draws an image takes, the bound at the stop, and the class it is given.

    Args:
        scores: Class scores of all draws, (count, classes).
        others: Class scores apart from draws, (classes,).
        count: Number of draws in the end.
        p: Bound at which it stops.
    """
    for n in [*range(8, count, 4), count]:
        found = bound(scores[:n], others, count)
        if found <= p:
            break
    return n, found, int(np.argmax(others + count * scores[:n].mean(axis=0)))
