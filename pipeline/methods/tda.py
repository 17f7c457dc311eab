"""TDA: caches of sure and of less sure images correct zero-shot logits (Karmanov et al., 2024).

A positive cache keeps the surest images of each predicted class; they raise the logit of their
class by their similarity with the image. A negative cache keeps images of medium entropy; they
lower the logits of the classes that are possible for them. The image enters before it is scored.
Here an image is a single view, as in the paper on ImageNet and the fine-grained datasets. On
variants of ImageNet the paper averages views of augmented images, which this method does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import MethodInputs, Scorer, Views
from pipeline.methods.online import Online, exact

if TYPE_CHECKING:
    from torch import Tensor

POSITIVE, NEGATIVE = 3, 2
"""Room of the two caches for each class."""
MEDIUM = (0.2, 0.5)
"""Entropies over log2(classes), between which an image enters the negative cache."""
NEGATIVE_ALPHA, NEGATIVE_BETA = 0.117, 1.0
"""Weight and sharpness of the negative cache."""
POSSIBLE = (0.03, 1.0)
"""Probabilities between which a class is possible for an image of the negative cache."""


class Tda(Online):
    """Zero-shot logits, corrected by two caches over the stream."""

    alpha: float = Field(default=2.0, ge=0)
    """Weight of the positive cache. The authors chose a value for each dataset; those of ImageNet
    are the defaults.
    """
    beta: float = Field(default=5.0, ge=0)
    """Sharpness of similarities in the positive cache."""

    texts: ClassVar[tuple[str, ...]] = ("tda",)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer from the caches' members over time."""
        import torch
        import torch.nn.functional as F

        from pipeline.kernels.timeline import members

        scale, means = inputs.config.scale, exact(inputs.texts["tda"].means())
        all_images = self.stream(inputs, means, [inputs.texts["tda"]])
        classes, device = len(means), means.device
        medium = is_medium(all_images.entropies, classes)
        doubts, times = all_images.entropies.tolist(), all_images.times.tolist()
        positive = members(all_images.labels.tolist(), doubts, times, POSITIVE).to(device)
        less_sure = torch.where(medium, all_images.labels, -1).tolist()
        negative = members(less_sure, doubts, times, NEGATIVE).to(device)
        sure = all_images.vectors[positive.image]
        raised = self.alpha * F.one_hot(positive.label, classes).to(means.dtype)
        unsure = all_images.vectors[negative.image]
        lowered = lowering(scale * unsure @ means.T)

        def score(images: slice, views: Views) -> Tensor:
            f, now = exact(views["image"].vectors[:, 0]), all_images.times[images]
            alike = (self.beta * (f @ sure.T - 1)).exp() * positive.present(now)
            unlike = (NEGATIVE_BETA * (f @ unsure.T - 1)).exp() * negative.present(now)
            logits = scale * f @ means.T + alike @ raised - unlike @ lowered
            return logits / scale

        return score


def lowering(logits: Tensor) -> Tensor:
    """Return what images of the negative cache take from the logits of classes that are possible
    for them, by their own logits: (images, classes).
    """
    possible = logits.softmax(dim=1)
    return NEGATIVE_ALPHA * ((possible > POSSIBLE[0]) & (possible < POSSIBLE[1])).to(logits.dtype)


def is_medium(entropies: Tensor, classes: int) -> Tensor:
    """Return whether entropies are medium: bool (images,). The authors divide nats by bits."""
    import math

    share = entropies / math.log2(max(2, classes))
    return (share > MEDIUM[0]) & (share < MEDIUM[1])
