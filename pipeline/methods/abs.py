"""ABS: soft matching of an image's views with all descriptions (Eq. 10).

Its three components can be switched off (Table 4): without crops of either branch it takes the
whole image; without soft matching it compares each view with the mean description of each class, as
CuPL does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.methods.base import (
    MethodInputs,
    SumOverViews,
    ViewScorer,
    ViewVectors,
    Weigher,
    crops,
)
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions


class Abs(SumOverViews):
    """Attention-based selection."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)
    explained_by = "cupl"
    weighted: ClassVar[bool] = True
    of_sets: ClassVar[bool] = True

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return n views of each branch that is on, or else the whole image."""
        return crops(config) or {"image": 1}

    def probabilities(self, scores: Tensor, config: ScoresConfig) -> Tensor:
        """Convert scores to probabilities from the mean over views instead of the sum.

        Soft matching divides the weight of each view among all classes. The mean of a class is then
        a small part of a cosine, and the probabilities lie close to each other.
        """
        return super().probabilities(scores / sum(self.views(config).values()), config)

    def view_scorer(self, inputs: MethodInputs) -> ViewScorer:
        """Build a function that sums over the views of a branch."""
        from pipeline.kernels.matching import mean_view, similarity, soft_match

        config, texts = inputs.config, _first_texts(inputs)
        means = texts.means()

        def score_view(view: ViewVectors) -> Tensor:
            if config.soft:
                return soft_match(view.vectors, texts, config.scaled_temperature, view.weights)
            if view.vectors.ndim == 3:  # the mean is that of the cosines, and one vector
                return mean_view(view.vectors, view.weights) @ means.T
            cosines = similarity(view.vectors.flatten(0, 1), means)
            return mean_view(cosines.unflatten(0, view.vectors.shape[:2]), view.weights)

        return score_view

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build a function that weighs each view as often as it counts, and its cosines by Eq. 9
        or by the mean text.
        """
        from pipeline.kernels.weights import mean_weights, soft_weights

        config, texts = inputs.config, _first_texts(inputs)

        def weigh_view(view: ViewVectors) -> Tensor:
            vectors = _first_vectors(view, config)
            counts = vectors.new_ones(vectors.shape[:2]) if view.weights is None else view.weights
            by_view = counts[..., None, None]
            if config.soft:
                return soft_weights(vectors, texts, config.scaled_temperature).mul_(by_view)
            return by_view * mean_weights(texts)

        return lambda views: {name: weigh_view(views[name]) for name in self.views(config)}


def _first_texts(inputs: MethodInputs) -> Descriptions:
    """Return the first m descriptions of each class."""
    texts, m = inputs.texts["cupl"], inputs.config.m
    return texts if m is None else texts.first(m)


def _first_vectors(view: ViewVectors, config: ScoresConfig) -> Tensor:
    """Return the first n views of each image, or all if they count by weight."""
    return view.vectors if view.weights is not None else view.vectors[:, : config.n]
