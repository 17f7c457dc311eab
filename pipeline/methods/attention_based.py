"""ABS: all views of an image, softly matched with all descriptions (Eq. 10).

Its three components can be left out (Table 4): without either branch it takes the whole image, and
without soft matching each view meets the mean description of each class, as in CuPL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.methods.base import Given, Matching, Method, Scorer, View, Views

if TYPE_CHECKING:
    from torch import Tensor


class Abs(Method):
    """Attention-based selection."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)

    def views(self, matching: Matching) -> dict[str, int]:
        """The branches that are on, else the whole image."""
        on = {"feature": matching.feature, "raw": matching.raw}
        return {name: matching.n for name in on if on[name]} or {"image": 1}

    def probabilities(self, scores: Tensor, matching: Matching) -> Tensor:
        """As for a cosine, of the mean over views in place of the sum.

        Soft matching divides the weight of each view among all classes. A class's mean is then a
        small part of a cosine, and the probabilities lie close to each other.
        """
        return super().probabilities(scores / sum(self.views(matching).values()), matching)

    def scorer(self, given: Given) -> Scorer:
        """Sum over all views: 2N crops when nothing is left out."""
        from pipeline.kernels.matching import mean_view, soft_match

        matching, texts = given.matching, given.texts["cupl"]
        texts = texts if matching.m is None else texts.first(matching.m)
        means, names = texts.means(), self.views(matching)

        def of_view(view: View) -> Tensor:
            vectors = view.vectors if view.weights is not None else view.vectors[:, : matching.n]
            if matching.soft:
                return soft_match(vectors, texts, matching.temperature, view.weights)
            return mean_view(vectors, view.weights) @ means.T

        def score(images: slice, views: Views) -> Tensor:
            first, *others = [of_view(views[name]) for name in names]
            return sum(others, start=first)

        return score
