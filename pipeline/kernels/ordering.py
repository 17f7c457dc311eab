"""Order in which the draws of an image are best taken, by their places alone.

The places of all N draws are known before any is encoded, so that the draws which tell most of the
others can be taken first. The order follows from places and never from scores: where scores have
nothing to do with places it is as good as any other, and where they do, predictions of the mean
(`pipeline.kernels.kriging`) hold for every order. `docs/settling.md` derives the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.kernels.kriging import correlations
from pipeline.kernels.rounds import NUGGET, REACH, looks

NUMBERS = 2**21
"""Correlations under a law that are held at once."""
DIGITS = 9
"""Decimals to which half-widths are compared, so that rounding decides nothing."""


@torch.no_grad()
def best_order(places: Tensor, p: float, reach: float = REACH, nugget: float = NUGGET) -> Tensor:
    """Choose draws one by one: the next is the one that leaves the narrowest interval.

    The half-width of the interval of a predicted mean is Student's quantile times the root of the
    variance of its error; the largest under the laws of `correlations` counts. Its degrees of
    freedom are those of the estimated variance under each law (Satterthwaite). Of equal draws the
    first is chosen. Draws after the last look follow in their own order.

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
    z = float(torch.special.ndtri(torch.tensor(1 - p / len(taken), dtype=torch.float64)))
    step = max(1, NUMBERS // count**2)
    return torch.cat(
        [_ordered(correlations(part, reach, nugget), taken[-1], z) for part in places.split(step)]
    )


def _ordered(laws: Tensor, last: int, z: float) -> Tensor:
    """Order draws of which the correlations are given, (laws, images, N, N), up to the last look.

    Args:
        laws: Correlations under each law, the assumed one first.
        last: Number of draws at the last look.
        z: Normal quantile of the interval.
    """
    design = Design.of(laws)
    while len(design.chosen) < last:
        widths = design.half_widths(z).round(decimals=DIGITS)
        design.take(widths.masked_fill(design.taken, torch.inf).argmin(dim=1))
    rest = (~design.taken).nonzero()[:, 1].reshape(len(design.taken), -1)
    return torch.cat([torch.stack(design.chosen, dim=1), rest], dim=1)


@dataclass
class Design:
    """Chosen draws, and what each further one would change of the prediction of the mean of all.

    For each draw j holds the combination a_j of draws that is its score less its best prediction
    from the chosen ones. Choosing a draw takes its share out of all other combinations, which is
    one step of Gram and Schmidt's method, so that nothing is ever inverted.
    """

    chosen: list[Tensor]
    """Number of each chosen draw, int64 (images,)."""
    taken: Tensor
    """True for chosen draws, bool (images, N)."""
    residuals: Tensor
    """The a_j, (images, N, N); zero for chosen draws."""
    by_law: Tensor
    """Law times a_j, (laws, images, N, N)."""
    squares: Tensor
    """Variance of each residual under each law, (laws, images, N)."""
    difference: Tensor
    """Weights of the predicted mean less those of the mean, (images, N)."""
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
        count = laws.shape[-1]
        images = torch.arange(laws.shape[1])
        first = laws[0].sum(dim=2).round(decimals=DIGITS).argmax(dim=1)
        taken = torch.zeros(laws.shape[1:3], dtype=torch.bool)
        taken[images, first] = True
        residuals = torch.eye(count, dtype=torch.float64).expand(laws.shape[1:]).clone()
        residuals[images, :, first] -= 1
        by_law = residuals @ laws
        difference = taken.double() - 1 / count
        error = ((laws @ difference[:, :, None])[..., 0] * difference).sum(dim=2)
        none = torch.zeros_like(error)
        return cls(
            [first], taken, residuals, by_law, (by_law * residuals).sum(dim=3), difference, error,
            none, none, none[0, :, None][:, :0], by_law[..., :0],
        )  # fmt: skip

    def half_widths(self, z: float) -> Tensor:
        """Return the half-width that choosing each draw would leave, (images, N).

        Student's quantile is that of the normal law and the first term of its expansion in the
        degrees of freedom.
        """
        _, error, trace, spread = self._with_each()
        freedom = trace.square() / spread
        quantile = z + (z**3 + z) / (4 * freedom)
        return (quantile * (error.clamp(min=0) * len(self.chosen) / trace).sqrt()).amax(dim=0)

    def _with_each(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return gain, (images, N), and error, trace and spread with each draw, (laws, images, N).

        The gain is the weight of the draw's residual in the predicted mean.
        """
        scale = self.squares[0].masked_fill(self.taken, 1)
        by_draw = (self.by_law * self.difference[:, None]).sum(dim=3)
        gain = -by_draw[0] / scale
        error = self.error[..., None] + 2 * gain * by_draw + gain.square() * self.squares
        share = self.squares / scale
        crossed = (self.shared.square() / self.scales[:, None]).sum(dim=3)
        spread = self.spread[..., None] + 2 * crossed / scale + share.square()
        return gain, error, self.trace[..., None] + share, spread

    def take(self, draws: Tensor) -> None:
        """Choose a draw of each image, int64 (images,)."""
        images = torch.arange(len(draws))
        gain, error, trace, spread = (part[..., images, draws] for part in self._with_each())
        residual, scale = self.residuals[images, draws], self.squares[0, images, draws]
        by_law, square = self.by_law[:, images, draws], self.squares[:, images, draws, None]
        common = (self.residuals @ by_law[..., None])[..., 0]
        share = common[0] / scale[:, None]
        self.difference = self.difference + gain[:, None] * residual
        self.error, self.trace, self.spread = error, trace, spread
        self.squares = self.squares - 2 * share * common + share.square() * square
        others = self.shared - share[..., None] * self.shared[:, images, draws, None]
        self.shared = torch.cat([others, (common - share * square)[..., None]], dim=3)
        self.scales = torch.cat([self.scales, scale[:, None]], dim=1)
        self.by_law -= share[..., None] * by_law[:, :, None]
        self.residuals -= share[..., None] * residual[:, None]
        self.taken[images, draws] = True
        self.chosen.append(draws)
