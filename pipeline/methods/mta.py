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

from pipeline.methods.base import (
    Method,
    MethodInputs,
    Scorer,
    Views,
    Weigher,
    image_and_crops,
    stacked,
    unstacked,
)
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
    explained_by = "clip"
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
            return self.modes(v, scale * v @ means.T)[0] @ means.T

        return score

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build a function that multiplies the weights of views in the mode, found in single
        precision as for the scores, with those of texts in the mean.
        """
        import torch

        from pipeline.kernels.weights import mean_weights

        texts, wanted = inputs.texts["clip"], self.views(inputs.config)
        means, by_text = texts.to(torch.float32).means(), mean_weights(texts)
        scale = inputs.config.scale

        def weigh(views: Views) -> dict[str, Tensor]:
            v = stacked(views, wanted)
            _, kept = self.modes(v.float(), scale * v.float() @ means.T)
            kept = kept.to(v.dtype)
            by_view = kept / (kept[:, None] @ v).norm(dim=2)
            return unstacked(by_view[..., None, None] * by_text, wanted)

        return weigh

    def modes(self, v: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Find the mode of each image's views.

        Args:
            v: Unit vectors, the whole image first, (images, views, dim).
            logits: Logits of the views, (images, views, classes).

        Returns:
            Unit vectors (images, dim), and the weights (images, views) of the views whose sum has
                their direction.
        """
        import torch

        p = logits.softmax(dim=-1)
        w = p @ p.transpose(1, 2)
        h2, m = self.bandwidths(v), v[:, 0]
        y = weights = torch.full_like(h2, 1 / v.shape[1])
        for _ in range(ROUNDS):
            g = _density(v, m, h2)
            y, _ = _settled(y, partial(self._inlierness, g, w))
            m, weights = _settled(m, partial(_shifted, v, h2, y))
        return m, weights

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

    def _inlierness(self, g: Tensor, w: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        affinity = (w @ y[..., None])[..., 0]
        return ((g + self.lambda_q * affinity) / self.lambda_y).softmax(dim=1), affinity


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


def _shifted(v: Tensor, h2: Tensor, y: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Move the mode to the mean of the views by density and inlierness: (images, dim), with the
    weights of the views, (images, views).
    """
    import torch.nn.functional as F

    weights = _density(v, m, h2) * y
    return F.normalize((weights[:, None] @ v)[:, 0], dim=1), weights


def _settled(
    value: Tensor, step: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Repeat a step, each image by itself until its value moves less than `TOLERANCE`.

    A step returns the next value and the weights of views that it used; so does this function, for
    the last step of each image.
    """
    import torch

    moving = torch.ones_like(value[:, :1], dtype=torch.bool)
    used: Tensor | None = None
    for _ in range(ROUNDS):
        moved, weights = step(value)
        renewed = torch.where(moving, moved, value)
        used = weights if used is None else torch.where(moving, weights, used)
        moving = moving & ((renewed - value).norm(dim=1, keepdim=True) >= TOLERANCE)
        value = renewed
    assert used is not None
    return value, used
