"""Rated texts: a description counts as far as the images of the dataset bear it out.

A proposal of this project, which no paper has published. It learns from all images that are
scored, without labels. Let v(x) be the mean view of image x: the mean over its branches (raw
crops, feature crops) of their mean unit vectors, of which that of feature crops may be exact. A
class has texts t_j with the normalised mean m; p(c|x) is CLIP's probability, the softmax over
classes of the logit scale times v(x) . m_c. Then

    n_c    = sum over x of p(c|x)                 images of class c
    u_c    = sum over x of p(c|x) v(x) / n_c      mean view of these
    r_cj   = max(0, t_cj . (u_c - u) / s_cj)      rating of a description
    w_cj   = n_c r_cj + mean over j of r_cj       its weight, as if an image more rated all equally
    score  = v(x) . normalised sum over j of w_cj t_cj

where u is the mean view of all images, and s_cj the standard deviation of v(x) . t_cj over them. A
rating is what test theory calls the discrimination of an item: by how many standard deviations the
images of a class are more similar to a description than all are. Weights are compared within a
class alone, so that no class gains by being frequent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.methods.base import Method, MethodInputs, Scorer, Views, crops, over_all
from pipeline.methods.config import ScoresConfig
from pipeline.methods.online import exact

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions

ROWS = 128
"""Images that are read at once; fixed, so that products do not depend on the size of units."""
LEAST = 1e-6
"""Smallest spread of cosines, and smallest rating, that rounding does not make."""


class RatedTexts(Method):
    """Cosine of the mean view with the mean of a class's texts, weighed by their ratings."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)
    default: ClassVar[bool] = False
    weighted: ClassVar[bool] = True

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the views of ABS: n of each branch that is on, or else the whole image."""
        return crops(config) or {"image": 1}

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer from the texts' ratings by all images."""
        texts = inputs.texts["cupl"].first(inputs.config.m)
        texts = texts.to(exact(texts.vectors).dtype)
        wanted = self.views(inputs.config)
        v = over_all(inputs, lambda views: mean_views(views, wanted), ROWS)
        means = rated_means(v, texts, inputs.config.scale)

        def score(images: slice, views: Views) -> Tensor:
            return mean_views(views, wanted) @ means.T

        return score


def mean_views(views: Views, wanted: dict[str, int]) -> Tensor:
    """Average the mean vectors of each kind of view.

    Args:
        views: Embeddings of a block of images.
        wanted: Views that count, by name: the first of each, or all where they have weights.

    Returns:
        float64 (images, dim), shorter than 1 where views differ.
    """
    import torch

    from pipeline.kernels.matching import mean_view

    def mean(name: str, count: int) -> Tensor:
        vectors, weights = exact(views[name].vectors), views[name].weights
        if weights is None:
            return vectors[:, :count].mean(dim=1)
        shares = exact(weights)
        return mean_view(vectors, shares / shares.sum(dim=1, keepdim=True))

    return torch.stack([mean(*each) for each in wanted.items()]).mean(dim=0)


def rated_means(v: Tensor, texts: Descriptions, scale: float) -> Tensor:
    """Average the texts of each class by their ratings.

    Args:
        v: Mean views of all images, (images, dim).
        texts: Texts of all classes, of the dtype of the views.
        scale: Logit scale.

    Returns:
        Unit vectors (classes, dim); the plain mean of a class without a text of positive rating.
    """
    import torch
    import torch.nn.functional as F

    p = (scale * v @ texts.means().T).softmax(dim=1)
    counts = p.sum(dim=0)[:, None]
    u, apart = v.mean(dim=0), v - v.mean(dim=0)
    gains = torch.einsum("cjd,cd->cj", texts.vectors, p.T @ v / counts - u)
    covariance = apart.T @ apart / len(v)
    spread = (texts.vectors @ covariance * texts.vectors).sum(dim=2).clamp(min=0).sqrt()
    ratings = gains / spread
    ratings = ratings.where((spread > LEAST) & (ratings > LEAST), 0)
    number = texts.present.sum(dim=1, keepdim=True).clamp(min=1)
    weights = counts * ratings + ratings.sum(dim=1, keepdim=True) / number
    weights = weights.where(ratings.any(dim=1, keepdim=True), 1)
    return F.normalize(torch.einsum("cj,cjd->cd", weights, texts.vectors), dim=1)
