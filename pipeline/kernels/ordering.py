"""Order in which the draws of an image are best taken, by their places alone.

The places of all N draws are known before any is encoded, so that the draws which tell most of the
others can be taken first. The order follows from places and never from scores: where scores have
nothing to do with places it is as good as any other, and where they do, predictions of the mean
(`pipeline.kernels.kriging`) hold for every order. `docs/settling.md` derives the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    design = Design.of(laws)
    while design.chosen.shape[1] < last:
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
    """As `Design.error`, (laws, images, N)."""
    trace: Tensor
    """As `Design.trace`, (laws, images, N)."""
    spread: Tensor
    """As `Design.spread`, (laws, images, N)."""


@dataclass
class Design:
    """Chosen draws, and what each further one would change of the prediction of the mean of all.

    The residual of a draw j is its score less its best prediction from the n chosen ones. Choosing
    a draw takes its share out of the residuals of all others, which is one step of Gram and
    Schmidt's method, so that nothing is ever inverted; its cost grows as N n.
    """

    laws: Tensor
    """Correlations under each law, (laws, images, N, N)."""
    chosen: Tensor
    """Numbers of the chosen draws, int64 (images, n)."""
    taken: Tensor
    """True for chosen draws, bool (images, N)."""
    weights: Tensor
    """Weights of the chosen draws in the prediction of each draw, (images, N, n)."""
    columns: Tensor
    """Correlations of all draws with the chosen ones, (laws, images, N, n)."""
    squares: Tensor
    """Variance of each residual under each law, (laws, images, N)."""
    level: Tensor
    """Covariance of draws with the predicted mean less the mean, (laws, images, N)."""
    error: Tensor
    """Variance of the error of the predicted mean under each law, (laws, images)."""
    trace: Tensor
    """Mean of the estimated variance, times its degrees of freedom, (laws, images)."""
    spread: Tensor
    """Half the variance of that, (laws, images)."""
    scales: Tensor
    """Assumed variance of the residual of each chosen draw but the first, (images, n - 1)."""
    shared: Tensor
    """Covariance of residuals with those of these draws, (laws, images, N, n - 1)."""

    @classmethod
    def of(cls, laws: Tensor) -> Design:
        """Choose the first draw: the one that correlates most with all, as assumed."""
        first = laws[0].sum(dim=2).round(decimals=DIGITS).argmax(dim=1)
        images = torch.arange(len(first))
        taken = torch.zeros(laws.shape[1:3], dtype=torch.bool)
        taken[images, first] = True
        column = laws[:, images, first]
        own = column[:, images, first, None]
        squares = own + laws.diagonal(dim1=2, dim2=3) - 2 * column
        mean = laws.mean(dim=3)
        level = column - mean
        error = level[:, images, first] - level.mean(dim=2)
        none = torch.zeros_like(error)
        return cls(
            laws, first[:, None], taken, torch.ones_like(laws[0, :, :, :1]), column[..., None],
            squares, level, error, none, none, none[0, :, None][:, :0], column[..., None][..., :0],
        )  # fmt: skip

    def half_widths(self, each: Each, z: float) -> Tensor:
        """Return the half-width that choosing each draw would leave, (images, N).

        Student's quantile is that of the normal law and the first term of its expansion in the
        degrees of freedom.
        """
        freedom = each.trace.square() / each.spread
        quantile = z + (z**3 + z) / (4 * freedom)
        error = each.error.clamp(min=0) * self.chosen.shape[1] / each.trace
        return (quantile * error.sqrt()).amax(dim=0)

    def with_each(self) -> Each:
        """Return what choosing each draw would give."""
        scale = self.squares[0].masked_fill(self.taken, 1)
        by_draw = self._of_residuals(self.level)
        gain = -by_draw[0] / scale
        error = self.error[..., None] + 2 * gain * by_draw + gain.square() * self.squares
        share = self.squares / scale
        crossed = (self.shared.square() / self.scales[:, None]).sum(dim=3)
        spread = self.spread[..., None] + 2 * crossed / scale + share.square()
        return Each(gain, error, self.trace[..., None] + share, spread)

    def _of_residuals(self, values: Tensor) -> Tensor:
        """Return of values of draws, such as covariances, those of residuals: (laws, images, N)."""
        of_chosen = values.take_along_dim(self.chosen[None], dim=2)
        return values - (self.weights @ of_chosen[..., None])[..., 0]

    def take(self, draws: Tensor, each: Each) -> None:
        """Choose a draw of each image, int64 (images,), of which `with_each` has found `each`."""
        images = torch.arange(len(draws))
        gain, error, trace, spread = (part[..., images, draws] for part in each)
        weights, scale = self.weights[images, draws], self.squares[0, images, draws]
        square = self.squares[:, images, draws, None]
        column = self.laws[:, images, draws]
        with_all = column - (self.columns @ weights[..., None])[..., 0]
        common = self._of_residuals(with_all)
        share = common[0] / scale[:, None]
        self.level = self.level + gain[:, None] * with_all
        self.error, self.trace, self.spread = error, trace, spread
        self.squares = self.squares - 2 * share * common + share.square() * square
        others = self.shared - share[..., None] * self.shared[:, images, draws, None]
        self.shared = torch.cat([others, (common - share * square)[..., None]], dim=3)
        self.scales = torch.cat([self.scales, scale[:, None]], dim=1)
        others = self.weights - share[..., None] * weights[:, None]
        self.weights = torch.cat([others, share[..., None]], dim=2)
        self.columns = torch.cat([self.columns, column[..., None]], dim=3)
        self.taken[images, draws] = True
        self.chosen = torch.cat([self.chosen, draws[:, None]], dim=1)
