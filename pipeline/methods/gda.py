"""GDA: a Gaussian classifier of labelled images beside the texts (Wang et al., 2024).

All classes of the support set share one covariance. Of its n unit vectors x of D numbers, mu_c are
the class means and Sigma is the covariance of x - mu_c. Then

    P = D pinv((n - 1) Sigma + trace(Sigma) I)
    W_c = P mu_c,  b_c = -log C - mu_c . P mu_c / 2
    logit of c = scale f . t_c + alpha (f . W_c + b_c)

with f the whole image and t_c the mean text of the class. The authors choose alpha on validation
images, which for ImageNet are the evaluated ones; here it is chosen by cross-validation on the
support set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import Field

from pipeline.core.errors import AbsError
from pipeline.methods.base import Method, MethodInputs, Scorer, Views
from pipeline.methods.online import exact
from pipeline.methods.support import SUPPORT, SupportConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions

ALPHAS = tuple(10.0**power for power in range(-4, 3))
"""Weights of the Gaussian classifier that cross-validation chooses from."""
FOLDS = 4
"""Parts of the support set in cross-validation: consecutive rows of each class, so that the crops
of an image lie in one part where its number of images is divided by this.
"""


class Gaussian(NamedTuple):
    """A linear classifier."""

    weights: Tensor
    """W, (classes, dim)."""
    biases: Tensor
    """b, (classes,)."""

    def logits(self, f: Tensor) -> Tensor:
        """Score vectors (n, dim): (n, classes)."""
        return f @ self.weights.T + self.biases


class Gda(Method):
    """CLIP's logits plus those of a Gaussian classifier of a support set."""

    alpha: float | None = Field(default=None, ge=0)
    """Weight of the Gaussian classifier; None to choose it by cross-validation."""
    support: SupportConfig = SupportConfig()
    """The support set."""

    texts: ClassVar[tuple[str, ...]] = ("tda", SUPPORT)
    default: ClassVar[bool] = False

    def labelled(self) -> SupportConfig:
        """Return the settings of the support set."""
        return self.support

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer with the classifier of the whole support set."""
        scale, means = inputs.config.scale, exact(inputs.texts["tda"].means())
        shots = inputs.texts[SUPPORT]
        fitted = gaussian(*_rows(shots), len(means))
        alpha = self.alpha if self.alpha is not None else chosen_alpha(shots, means, scale)

        def score(images: slice, views: Views) -> Tensor:
            f = exact(views["image"].vectors[:, 0])
            return f @ means.T + alpha / scale * fitted.logits(f)

        return score


def gaussian(x: Tensor, labels: Tensor, classes: int) -> Gaussian:
    """Fit the classifier.

    Args:
        x: Vectors, float64 (n, dim).
        labels: Class of each, int64 (n,).
        classes: Number of classes; the mean of one without a vector is 0.

    Returns:
        The classifier, in float64.
    """
    import math

    import torch
    import torch.nn.functional as F

    of = F.one_hot(labels, classes).to(x.dtype)
    means = of.T @ x / of.sum(dim=0).clamp(min=1)[:, None]
    apart = x - means[labels]
    scatter = apart.T @ apart
    ridge = scatter.trace() / max(len(x) - 1, 1)
    shared = scatter + ridge * torch.eye(len(scatter), dtype=x.dtype, device=x.device)
    weights = means @ torch.linalg.pinv(shared, hermitian=True) * x.shape[1]
    return Gaussian(weights, -math.log(classes) - (weights * means).sum(dim=1) / 2)


def chosen_alpha(shots: Descriptions, means: Tensor, scale: float) -> float:
    """Choose the weight by cross-validation: of those that are right most often, the least.

    Args:
        shots: Support set, by class.
        means: Mean texts, (classes, dim).
        scale: Logit scale.

    Raises:
        AbsError: If a class has a single vector.
    """
    import torch

    fewest = min(shots.counts)
    if fewest < 2:
        raise AbsError(
            "methods.gda.alpha: a class has one vector in the support set, so that it cannot be "
            "chosen by cross-validation; give alpha, or more images or passes"
        )
    x, labels = _rows(shots)
    folds = min(FOLDS, fewest)
    fold = torch.cat([torch.arange(count) * folds // count for count in shots.counts])
    right = torch.zeros(len(ALPHAS), device=x.device)
    for each in range(folds):
        held = (fold == each).to(x.device)
        logits = gaussian(x[~held], labels[~held], len(means)).logits(x[held])
        by_text = scale * x[held] @ means.T
        for i, alpha in enumerate(ALPHAS):
            right[i] += ((by_text + alpha * logits).argmax(dim=1) == labels[held]).sum()
    return ALPHAS[int(right.argmax())]


def _rows(shots: Descriptions) -> tuple[Tensor, Tensor]:
    """Return all vectors, in float64 by class, and their classes, int64."""
    import torch

    counts = torch.tensor(shots.counts, device=shots.vectors.device)
    labels = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return exact(shots.vectors[shots.present]), labels
