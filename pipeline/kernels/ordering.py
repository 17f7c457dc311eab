"""Order in which the draws of an image are best taken, by their places alone.

The places of all N draws are known before any is encoded, so that the draws which tell most of the
others can be taken first. The order follows from places and never from scores: where scores have
nothing to do with places it is as good as any other, and where they do, predictions of the mean
(`pipeline.kernels.kriging`) hold for every order. `docs/settling.md` derives the formulas.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.kernels.kriging import correlations, in_parts
from pipeline.kernels.rounds import NUGGET, REACH, looks

CHOSEN = 100
"""Draws that are chosen at most: each costs time that grows as N times their number, and the few
images that take more are near ties.
"""
TINY = 1e-300
"""Least probability of which the normal quantile is taken, so that it is finite."""
DIGITS = 9
"""Decimals to which half-widths are compared, so that rounding decides nothing."""


@torch.no_grad()
def best_order(places: Tensor, p: float, reach: float = REACH, nugget: float = NUGGET) -> Tensor:
    """Choose draws one by one: the next is the one that leaves the narrowest interval.

    The half-width of the interval of a predicted mean is Student's quantile times the root of the
    variance of its error; the largest under the laws of `correlations` counts. Its degrees of
    freedom are those of the estimated variance under each law (Satterthwaite). Of equal draws the
    first is chosen. Draws after the last look, or after `CHOSEN`, follow in their own order.

    Args:
        places: Left, top, right and bottom end of each of the N draws, (images, N, 4).
        p: Probability of a wrong decision over all looks.
        reach: Distance over which correlation falls off.
        nugget: Share of the variance that does not correlate.

    Returns:
        Numbers of the draws in the order in which to take them, int64 (images, N).
    """
    images, count = places.shape[:2]
    taken = looks(count)
    if not taken or not images:
        return torch.arange(count).expand(images, count)
    tail = torch.tensor(p, dtype=torch.float64) / len(taken)
    z = -float(torch.special.ndtri(tail.clamp(min=TINY)))
    last = min(taken[-1], CHOSEN)
    parts = in_parts(places)
    return torch.cat([_ordered(correlations(part, reach, nugget), last, z) for part in parts])


def _ordered(laws: Tensor, last: int, z: float) -> Tensor:
    """Order draws of which the correlations are given, (laws, images, N, N): the first `last`.

    Args:
        laws: Correlations under each law, the assumed one first.
        last: Number of draws that are chosen; the others follow.
        z: Normal quantile of the interval.
    """
    design = Design(laws, last)
    while design.n < last:
        each = design.with_each()
        widths = design.half_widths(each, z).round(decimals=DIGITS)
        design.take(widths.masked_fill(design.taken, torch.inf).argmin(dim=1), each)
    rest = (~design.taken).nonzero()[:, 1].reshape(len(design.taken), -1)
    return torch.cat([design.chosen, rest], dim=1)


class Each(NamedTuple):
    """Prediction of the mean of all draws with one draw more, for each that it may be."""

    gain: Tensor
    """Weight of the draw's residual in the predicted mean, (images, N)."""
    error: Tensor
    """Variance of the error of the predicted mean under each law, (laws, images, N)."""
    trace: Tensor
    """Mean of the estimated variance, times its degrees of freedom, (laws, images, N)."""
    spread: Tensor
    """Half the variance of that, (laws, images, N)."""


class Design:
    """Chosen draws, and what each further one would change of the prediction of the mean of all.

    The residual of a draw j is its score less its best prediction from the n chosen ones. Choosing
    a draw takes its share out of the residuals of all others, which is one step of Gram and
    Schmidt's method, so that nothing is ever inverted; its cost grows as N n. What is kept for each
    chosen draw has its place from the start, in rows of N, and is changed where it lies.

    Attributes:
        n: Number of chosen draws.
        laws: Correlations under each law, (laws, images, N, N).
        chosen: Numbers of the chosen draws, int64 (images, last).
        taken: True for chosen draws, bool (images, N).
        weights: Weight of each chosen draw in the prediction of each draw, (images, last, N).
        columns: Correlation of each chosen draw with all, (laws, images, last, N).
        squares: Variance of each residual under each law, (laws, images, N).
        level: Covariance of each residual with the predicted mean less the mean, (laws, images, N).
        error: Variance of the error of the predicted mean under each law, (laws, images).
        trace: Mean of the estimated variance, times its degrees of freedom, (laws, images).
        spread: Half the variance of that, (laws, images).
        scales: Assumed variance of the residual of each chosen draw but the first, (images, last).
        shared: Covariance of each of these with all residuals, (laws, images, last, N).
        crossed: Its square by their scales, summed over them, (laws, images, N).
    """

    def __init__(self, laws: Tensor, last: int) -> None:
        """Choose the first draw: the one that correlates most with all, as assumed."""
        count, images, draws, _ = laws.shape
        self.n, self.laws, self._images = 1, laws, torch.arange(images)
        first = laws[0].sum(dim=2).round(decimals=DIGITS).argmax(dim=1)
        column = laws[:, self._images, first]
        self.chosen = first[:, None].repeat(1, last)
        self.taken = torch.zeros(images, draws, dtype=torch.bool)
        self.taken[self._images, first] = True
        self.weights = laws.new_ones(images, last, draws)
        self.columns = column[:, :, None].repeat(1, 1, last, 1)
        own = column[:, self._images, first, None]
        self.squares = own + laws.diagonal(dim1=2, dim2=3) - 2 * column
        covariance = column - laws.mean(dim=3)
        of_first = covariance[:, self._images, first]
        self.level = covariance - of_first[..., None]
        self.error = of_first - covariance.mean(dim=2)
        self.trace = self.spread = torch.zeros_like(self.error)
        self.scales = laws.new_ones(images, last)
        self.shared = laws.new_empty(count, images, last, draws)
        self.crossed = torch.zeros_like(self.level)

    def half_widths(self, each: Each, z: float) -> Tensor:
        """Return the half-width that choosing each draw would leave, (images, N).

        Student's quantile is that of the normal law and the first term of its expansion in the
        degrees of freedom.
        """
        freedom = each.trace.square() / each.spread
        quantile = z + (z**3 + z) / (4 * freedom)
        return (quantile * (each.error.clamp(min=0) * self.n / each.trace).sqrt()).amax(dim=0)

    def with_each(self) -> Each:
        """Return what choosing each draw would give."""
        scale = self.squares[0].masked_fill(self.taken, 1)
        gain, share = -self.level[0] / scale, self.squares / scale
        error = self.error[..., None] + 2 * gain * self.level + gain.square() * self.squares
        spread = self.spread[..., None] + 2 * self.crossed / scale + share.square()
        return Each(gain, error, self.trace[..., None] + share, spread)

    def take(self, draws: Tensor, each: Each) -> None:
        """Choose a draw of each image, int64 (images,), of which `with_each` has found `each`."""
        n, images = self.n, self._images
        gain, self.error, self.trace, self.spread = (part[..., images, draws] for part in each)
        scale, square = self.squares[0, images, draws], self.squares[:, images, draws, None]
        weights = self.weights[images, :n, draws]
        column = self.laws[:, images, draws]
        with_all = column - _product(weights, self.columns[:, :, :n])
        common = with_all - self._predicted(with_all)
        share = common[0] / scale[:, None]
        self._share_out(share, common, draws, scale)
        self.level = self.level + gain[:, None] * common
        self.level = self.level - share * self.level[:, images, draws, None]
        self.squares = self.squares - 2 * share * common + share.square() * square
        self.weights[:, :n].addcmul_(weights[:, :, None], share[:, None], value=-1)
        self.weights[:, n], self.columns[:, :, n] = share, column
        self.taken[images, draws], self.chosen[:, n], self.n = True, draws, n + 1

    def _predicted(self, values: Tensor) -> Tensor:
        """Predict values of draws, such as covariances, from those of the chosen: as `values`."""
        of_chosen = values.take_along_dim(self.chosen[None, :, : self.n], dim=2)
        return (of_chosen.transpose(0, 1) @ self.weights[:, : self.n]).transpose(0, 1)

    def _share_out(self, share: Tensor, common: Tensor, draws: Tensor, scale: Tensor) -> None:
        """Take a draw's share, (images, N), out of what residuals have in common with chosen ones.

        Args:
            share: Weight of the draw's residual in each residual.
            common: Covariance of the draw's residual with all, (laws, images, N).
            draws: The draw that is chosen of each image, int64 (images,).
            scale: Assumed variance of its residual, (images,).
        """
        images, last = self._images, self.n - 1
        shared = self.shared[:, :, :last]
        own = shared.take_along_dim(draws[None, :, None, None], dim=3)
        crossed = _product(own[..., 0] / self.scales[:, :last], shared)
        new = common - share * self.squares[:, images, draws, None]
        of_own = self.crossed[:, images, draws, None]
        self.crossed = self.crossed - 2 * share * crossed + share.square() * of_own
        self.crossed = self.crossed + new.square() / scale[:, None]
        shared.addcmul_(own, share[:, None], value=-1)
        self.shared[:, :, last], self.scales[:, last] = new, scale


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply (..., n) with (laws, images, n, N), for each law and image: (laws, images, N)."""
    return (left[..., None, :] @ right)[..., 0, :]
