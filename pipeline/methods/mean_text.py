"""One vector per class: the renormalised mean of its texts, against the whole image (Eq. 1).

The text set makes the method: one template is CLIP, several are CLIP-E, descriptors CLIP-D, noise
Waffle, and generated sentences CuPL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.methods.base import Given, Method, Scorer, Views

if TYPE_CHECKING:
    from torch import Tensor


class MeanText(Method):
    """Cosine of the image with each class's mean text."""

    def scorer(self, given: Given) -> Scorer:
        """Of the one text set."""
        (texts,) = given.texts.values()
        means = texts.means()

        def score(images: slice, views: Views) -> Tensor:
            return views["image"].vectors[:, 0] @ means.T

        return score


class Clip(MeanText):
    """CLIP."""

    texts: ClassVar[tuple[str, ...]] = ("clip",)


class ClipE(MeanText):
    """CLIP with an ensemble of templates."""

    texts: ClassVar[tuple[str, ...]] = ("clip-e",)


class ClipD(MeanText):
    """Classification by description."""

    texts: ClassVar[tuple[str, ...]] = ("clip-d",)


class Waffle(MeanText):
    """Random words and characters in place of descriptors."""

    texts: ClassVar[tuple[str, ...]] = ("waffle",)


class Cupl(MeanText):
    """Customised prompts: sentences of a language model, all of them."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)
