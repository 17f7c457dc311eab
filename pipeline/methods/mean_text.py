"""Methods that compare the whole image with the renormalised mean of each class's texts (Eq. 1).

They differ in their text set: one template (CLIP), several templates (CLIP-E), descriptors
(CLIP-D), random words and characters (Waffle), or sentences of a language model (CuPL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.methods.base import Method, MethodInputs, Scorer, Views, Weigher

if TYPE_CHECKING:
    from torch import Tensor


class MeanText(Method):
    """Cosine of the whole image with the mean text of each class."""

    of_sets: ClassVar[bool] = True

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer with the only text set of the method."""
        from pipeline.kernels.matching import similarity

        (texts,) = inputs.texts.values()
        means = texts.means()

        def score(images: slice, views: Views) -> Tensor:
            return similarity(views["image"].vectors[:, 0], means)

        return score

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build a function that gives each text of a class its share of the mean."""
        from pipeline.kernels.weights import mean_weights

        (texts,) = inputs.texts.values()
        weights = mean_weights(texts)
        return lambda views: {"image": weights[None, None]}


class Clip(MeanText):
    """CLIP with one template (Radford et al., 2021)."""

    texts: ClassVar[tuple[str, ...]] = ("clip",)
    explained_by = "clip"


class ClipE(MeanText):
    """CLIP with an ensemble of templates."""

    texts: ClassVar[tuple[str, ...]] = ("clip-e",)
    explained_by = "clip-e"


class ClipD(MeanText):
    """Classification by description (Menon and Vondrick, 2022)."""

    texts: ClassVar[tuple[str, ...]] = ("clip-d",)
    explained_by = "clip-d"


class Waffle(MeanText):
    """Random words and characters instead of descriptors (Roth et al., 2023)."""

    texts: ClassVar[tuple[str, ...]] = ("waffle",)
    explained_by = "waffle"


class Cupl(MeanText):
    """Customised prompts: all sentences of a language model (Pratt et al., 2023)."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)
    explained_by = "cupl"
