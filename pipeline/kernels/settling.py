"""Sequential test of a decision: whether more draws can still change the class in front.

A method that sums class scores over independent draws of an image decides for the class with the
largest sum over N of them. After n draws its sum is predicted (`pipeline.kernels.kriging`), and the
lead of the class in front over another class may be lost by the error of that prediction.
`docs/settling.md` derives the rule.

Assumption of Student's tail: differences of class scores are roughly normal, so that n >= 8 of
them show how far they spread. Rare crops that change everything break it. The tail of an empirical
Bernstein bound needs no such assumption, and seldom stops before N.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.kernels.kriging import Prediction
from pipeline.kernels.rounds import FIRST, looks
from pipeline.kernels.transfer import to_device

Tail = Callable[[Tensor, Tensor, int, Tensor], Tensor]
"""Function of leads, spreads, n and errors that bounds the probability that a lead is lost.

Leads and spreads are those of a draw: the mean difference and its standard deviation. The error is
the variance of the predicted mean, in variances of a draw.
"""


def student(lead: Tensor, spread: Tensor, n: int, error: Tensor) -> Tensor:
    """Bound the probability that a lead is lost by Student's tail of n - 1 degrees of freedom.

    Exact for normal differences. Differences without any spread in n draws say nothing of what the
    others do, and may be lost.

    Args:
        lead: Predicted mean difference of a draw, plus what is known apart from draws; not
            negative: (images, classes).
        spread: Standard deviation of the difference, of the same shape.
        n: Number of draws.
        error: Variance of the prediction's error, in variances of a draw, (images,).

    Returns:
        Probabilities, float64 of the shape of `lead`.
    """
    from scipy.special import stdtr

    t = lead / (spread * error.sqrt()[:, None])
    tails = torch.from_numpy(stdtr(n - 1, -t.cpu().numpy()))
    return tails.to(lead.device).masked_fill(spread == 0, 1.0)


def bernstein(reach: float) -> Tail:
    """Make the tail of an empirical Bernstein bound for differences that span at most `reach`.

    Draws without replacement, predicted by their mean: Bardenet and Maillard (2015), theorem 4.
    Holds for any differences within their reach, and is far from exact.
    """

    def tail(lead: Tensor, spread: Tensor, n: int, error: Tensor) -> Tensor:
        rest = 1 / n - error[:, None]
        early = 1 - (n - 1) * rest
        left = torch.where(n * rest <= 0.5, early, (1 - n * rest) * (1 + 1 / n)).clamp(min=0)
        # lead = a sqrt(y) + b y, where the probability is 5 exp(-y)
        a = spread * (2 * left / n).sqrt()
        b = (7 / 3 + 3 / math.sqrt(2)) * reach / n
        root = ((a * a + 4 * b * lead).sqrt() - a) / (2 * b)
        return (5 * (-root * root).exp()).clamp(max=1.0)

    return tail


@torch.no_grad()
def change_bound(
    scores: Tensor, others: Tensor, count: int, prediction: Prediction, tail: Tail = student
) -> Tensor:
    """Bound the probability that the class in front is not that of all draws.

    Tails are added over the other classes, and multiplied by the number of looks that may be taken
    (Bonferroni). So a decision that is taken at the first look with a bound of at most p is wrong
    with a probability of at most p, over all looks and classes.

    Args:
        scores: Class scores of each draw, (images, n, classes).
        others: Class scores that are known apart from draws, (images, classes); they are added to
            the sum over `count` draws.
        count: Number of draws N in the end, or as which infinitely many count.
        prediction: Prediction of the mean draw that is meant, from n draws.
        tail: Bound for one class at one look.

    Returns:
        float64 (images,), at most 1; 1 below `FIRST` draws, and 0 where the prediction is certain.

    Raises:
        ValueError: If there are no draws, or more than `count`.
    """
    images, n, _ = scores.shape
    if not 0 < n <= count:
        raise ValueError(f"{n} draws: expected 1 to {count}")
    if not prediction.error.any():
        return torch.zeros(images, dtype=torch.float64)
    if n < FIRST:
        return torch.ones(images, dtype=torch.float64)
    weights, residual, error = (to_device(part, scores.device) for part in prediction)
    scores = scores.double()
    mean = (weights[:, None] @ scores)[:, 0] + others.double() / count
    front = mean.argmax(dim=1)
    rows = torch.arange(images, device=scores.device)
    differences = scores[rows, :, front][:, :, None] - scores
    differences = differences - differences[:, :1]
    squares = (differences * (residual @ differences)).sum(dim=1).clamp(min=0)
    lead = mean[rows, front][:, None] - mean
    tails = tail(lead, (squares / (n - 1)).sqrt(), n, error)
    tails[rows, front] = 0
    return (max(1, len(looks(count))) * tails.sum(dim=1)).clamp(max=1.0).cpu()
