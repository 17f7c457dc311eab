"""Sequential test of a decision: whether more crops can still change the class in front.

A method that sums class scores over independent draws of an image decides for the class with the
largest sum over N of them. After n draws its sum is estimated by N times their mean, and the lead
of the class in front over another class changes until the end by a sum of N - n draws that the n
predict. `docs/settling.md` derives the rule.

Assumption of Student's tail: differences of class scores are roughly normal, so that n >= 8 of
them show how far they spread. Rare crops that change everything break it. The tail of an empirical
Bernstein bound needs no such assumption, and seldom stops before N.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.kernels.rounds import FIRST, looks

Tail = Callable[[Tensor, Tensor, int, float], Tensor]
"""Function of leads, spreads, n and 1 / N that bounds the probability that a lead is lost.

Leads and spreads are those of a draw: the mean difference and its standard deviation.
"""


def student(lead: Tensor, spread: Tensor, n: int, rest: float) -> Tensor:
    """Bound the probability that a lead is lost by Student's tail of n - 1 degrees of freedom.

    Exact for normal differences. Differences without any spread in n draws say nothing of what the
    others do, and may be lost.

    Args:
        lead: Mean difference of a draw, plus what is known apart from draws; not negative.
        spread: Standard deviation of the difference among the n draws, of the same shape.
        n: Number of draws.
        rest: 1 / N for the decision of N draws; 0 for that of infinitely many.

    Returns:
        Probabilities, float64 of the same shape.
    """
    from scipy.special import stdtr

    error = spread * math.sqrt(1 / n - rest)
    tails = torch.from_numpy(stdtr(n - 1, -(lead / error).cpu().numpy()))
    return tails.to(lead.device).masked_fill(error == 0, 1.0)


def bernstein(reach: float) -> Tail:
    """Make the tail of an empirical Bernstein bound for differences that span at most `reach`.

    Draws without replacement: Bardenet and Maillard (2015), theorem 4. Holds for any differences
    within their reach, and is far from exact.
    """

    def tail(lead: Tensor, spread: Tensor, n: int, rest: float) -> Tensor:
        left = 1 - (n - 1) * rest if n * rest <= 0.5 else (1 - n * rest) * (1 + 1 / n)
        # lead = a sqrt(y) + b y, where the probability is 5 exp(-y)
        a = spread * math.sqrt(2 * left / n)
        b = (7 / 3 + 3 / math.sqrt(2)) * reach / n
        root = ((a * a + 4 * b * lead).sqrt() - a) / (2 * b)
        return (5 * (-root * root).exp()).clamp(max=1.0)

    return tail


@torch.no_grad()
def change_bound(
    scores: Tensor, others: Tensor, count: int, forever: bool = False, tail: Tail = student
) -> Tensor:
    """Bound the probability that the class in front is not that of all draws.

    Tails are added over the other classes, and multiplied by the number of looks that may be taken
    (Bonferroni). So a decision that is taken at the first look with a bound of at most p is wrong
    with a probability of at most p, over all looks and classes.

    Args:
        scores: Class scores of each draw, (images, n, classes).
        others: Class scores that are known apart from draws, (images, classes); they are added to
            the sum over `count` draws.
        count: Number of draws N in the end.
        forever: Mean the decision of infinitely many draws, weighed as `count`, instead.
        tail: Bound for one class at one look.

    Returns:
        float64 (images,), at most 1; 1 below `FIRST` draws, and 0 if all `count` draws are there
            and their decision is meant.

    Raises:
        ValueError: If there are no draws, or more than `count`.
    """
    images, n, _ = scores.shape
    if not 0 < n <= count:
        raise ValueError(f"{n} draws: expected 1 to {count}")
    if n == count and not forever:
        return torch.zeros(images, dtype=torch.float64)
    if n < FIRST:
        return torch.ones(images, dtype=torch.float64)
    scores = scores.double()
    mean = scores.mean(dim=1) + others.double() / count
    front = mean.argmax(dim=1)
    rows = torch.arange(images, device=scores.device)
    differences = scores[rows, :, front][:, :, None] - scores
    lead = mean[rows, front][:, None] - mean
    tails = tail(lead, differences.std(dim=1), n, 0.0 if forever else 1 / count)
    tails[rows, front] = 0
    return (max(1, len(looks(count))) * tails.sum(dim=1)).clamp(max=1.0).cpu()
