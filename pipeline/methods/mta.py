"""MTA: the mode of an image's views, by mean shift among inliers (Zanella and Ben Ayed, 2024).

Each view has an inlierness y, which is high near the mode m and where similar predictions are.
Mode and inlierness are renewed in turn. Its paper's views are random resized crops; on the crops of
ABS it is `mta-crops`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import Method, MethodInputs, Scorer, Views, image_and_crops, stacked
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 5
"""Rounds of inlierness and mode, and the most steps of each in a round."""
TOLERANCE = 1e-6
"""Length of a step at which the steps of a round end."""
SMALLEST = 1e-12
"""Least squared bandwidth; views that repeat would have 0."""


class MtaCrops(Method):
    """Cosine of the mode of the image and the crops that ABS reads with the mean text."""

    lambda_y: float = Field(default=0.2, gt=0)
    """Weight of the entropy of inlierness."""
    lambda_q: float = Field(default=4.0, ge=0)
    """Weight of the affinity between predictions."""
    share: float = Field(default=0.3, gt=0, le=1)
    """Share of the other views, the nearest ones, whose distance is a view's bandwidth."""

    texts: ClassVar[tuple[str, ...]] = ("clip",)
    default: ClassVar[bool] = False

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the crops of ABS."""
        return image_and_crops(config)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that seeks the modes of a block of images."""
        means, wanted = inputs.texts["clip"].means(), self.views(inputs.config)
        scale = inputs.config.scale

        def score(images: slice, views: Views) -> Tensor:
            v = stacked(views, wanted)
            return self.modes(v, scale * v @ means.T) @ means.T

        return score

    def modes(self, v: Tensor, logits: Tensor) -> Tensor:
        """Find the mode of each image's views.

        Args:
            v: Unit vectors, the whole image first, (images, views, dim).
            logits: Logits of the views, (images, views, classes).

        Returns:
            Unit vectors, (images, dim).
        """
        import torch

        p = logits.softmax(dim=-1)
        w = p @ p.transpose(1, 2)
        h2, m = self.bandwidths(v), v[:, 0]
        y = torch.full_like(h2, 1 / v.shape[1])
        for _ in range(ROUNDS):
            g = _density(v, m, h2)
            y = _settled(y, partial(self._inlierness, g, w))
            m = _settled(m, partial(_shifted, v, h2, y))
        return m

    def bandwidths(self, v: Tensor) -> Tensor:
        """Compute squared bandwidths: half the mean squared distance to the nearest other views.

        Returns:
            (images, views), at least `SMALLEST`.
        """
        import torch

        count = min(v.shape[1] - 1, max(1, int(self.share * (v.shape[1] - 1))))
        if not count:
            return v.new_full(v.shape[:2], SMALLEST)
        # Not by cosines, which in single precision do not tell near views from equal ones.
        apart = torch.cdist(v, v, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = apart.topk(count + 1, dim=2, largest=False).values[..., 1:]
        return (nearest.square().mean(dim=2) / 2).clamp(min=SMALLEST)

    def _inlierness(self, g: Tensor, w: Tensor, y: Tensor) -> Tensor:
        affinity = (w @ y[..., None])[..., 0]
        return ((g + self.lambda_q * affinity) / self.lambda_y).softmax(dim=1)


class Mta(MtaCrops):
    """Cosine of the mode of the image and random resized crops of it with the mean text."""

    n: int = Field(default=63, ge=0, le=10_000)
    """Random crops besides the image."""

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the random crops."""
        return {"image": 1, **({"augmented": self.n} if self.n else {})}


def _density(v: Tensor, m: Tensor, h2: Tensor) -> Tensor:
    """Compute the density of each view around the mode: (images, views)."""
    return (-(v - m[:, None]).square().sum(dim=2) / (2 * h2)).exp()


def _shifted(v: Tensor, h2: Tensor, y: Tensor, m: Tensor) -> Tensor:
    """Move the mode to the mean of the views by density and inlierness: (images, dim)."""
    import torch.nn.functional as F

    weights = _density(v, m, h2) * y
    return F.normalize((weights[:, None] @ v)[:, 0], dim=1)


def _settled(value: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
    """Repeat a step, each image by itself until it moves less than `TOLERANCE`."""
    import torch

    moving = torch.ones_like(value[:, :1], dtype=torch.bool)
    for _ in range(ROUNDS):
        renewed = torch.where(moving, step(value), value)
        moving = moving & ((renewed - value).norm(dim=1, keepdim=True) >= TOLERANCE)
        value = renewed
    return value
