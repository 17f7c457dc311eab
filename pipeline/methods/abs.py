"""ABS: soft matching of an image's views with all descriptions (Eq. 10).

Its three components can be switched off (Table 4): without crops of either branch it takes the
whole image; without soft matching it compares each view with the mean description of each class, as
CuPL does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.methods.base import MethodInputs, SumOverViews, ViewScorer, ViewVectors
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor


class Abs(SumOverViews):
    """Attention-based selection."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return n views of each branch that is on, or else the whole image."""
        branches = {"feature": config.feature, "raw": config.raw}
        return {name: config.n for name, on in branches.items() if on} or {"image": 1}

    def probabilities(self, scores: Tensor, config: ScoresConfig) -> Tensor:
        """Convert scores to probabilities from the mean over views instead of the sum.

        Soft matching divides the weight of each view among all classes. The mean of a class is then
        a small part of a cosine, and the probabilities lie close to each other.
        """
        return super().probabilities(scores / sum(self.views(config).values()), config)

    def view_scorer(self, inputs: MethodInputs) -> ViewScorer:
        """Build a function that sums over the views of a branch."""
        from pipeline.kernels.matching import mean_view, soft_match

        config, texts = inputs.config, inputs.texts["cupl"]
        texts = texts if config.m is None else texts.first(config.m)
        means = texts.means()

        def score_view(view: ViewVectors) -> Tensor:
            if config.soft:
                return soft_match(view.vectors, texts, config.scaled_temperature, view.weights)
            return mean_view(view.vectors, view.weights) @ means.T

        return score_view
