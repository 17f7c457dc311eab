"""LaZSL: transport from squares of an image to the descriptions of a class (Chen et al., 2025).

A similarity is a share of the crop's cosine with a description and the rest of the whole image's.
Of the crops, those are kept that are at least as similar to the whole image as all are on average.
A class scores the similarities that optimal transport from these to its descriptions gains. Its
paper's views are 90 random squares with sides of 0.6 to 0.9 of the image's shorter one; on the
crops of ABS it is `lazsl-crops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.methods.base import (
    Method,
    MethodInputs,
    Scorer,
    Views,
    Weigher,
    by_blocks,
    image_and_crops,
    stacked,
    unstacked,
)
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions


class LazslCrops(Method):
    """Transport between the crops that ABS reads and CLIP-D's descriptors."""

    theta: float = Field(default=0.8, ge=0, le=1)
    """Share of the crop's cosine in a similarity; the rest is the whole image's."""
    eps: float = Field(default=0.1, ge=1e-2, le=10)
    """Factor of the entropy of a transport plan."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Steps of Sinkhorn's iteration; None until it converges."""

    texts: ClassVar[tuple[str, ...]] = ("clip-d",)
    explained_by = "clip-d"
    default: ClassVar[bool] = False

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the crops of ABS."""
        return image_and_crops(config)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that transports a few images at a time."""
        from pipeline.kernels.transport import similarity_blocks, transported

        texts, wanted = inputs.texts["clip-d"], self.views(inputs.config)
        problem = self.problem(texts)

        def score(images: slice, views: Views) -> Tensor:
            blocks = similarity_blocks(stacked(views, wanted), texts)
            return by_blocks(blocks, gain, images)

        def gain(f: Tensor, cosines: Tensor) -> Tensor:
            return transported(*problem(f, cosines), self.eps, steps=self.steps)

        return score

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build a function that gives a crop `theta` of its part of the plan, and the whole image
        the rest of all; plans are in single precision, as the scores.
        """
        import torch

        from pipeline.kernels.transport import similarity_blocks, transport_plan

        texts, wanted = inputs.texts["clip-d"].to(torch.float32), self.views(inputs.config)
        problem = self.problem(texts)

        def weigh(views: Views) -> dict[str, Tensor]:
            blocks = similarity_blocks(stacked(views, wanted).float(), texts)
            weights = [shares(*block) for block in blocks]
            return unstacked(torch.cat(weights).transpose(1, 2).double(), wanted)

        def shares(f: Tensor, cosines: Tensor) -> Tensor:
            plan = transport_plan(*problem(f, cosines), self.eps, steps=self.steps)
            image = (1 - self.theta) * plan.sum(dim=2, keepdim=True)
            crops = self.theta * plan
            return torch.cat([image, crops], dim=2) if f.shape[1] > 1 else image + crops

        return weigh

    def problem(
        self, texts: Descriptions
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """Return the function from views and their cosines to similarities, and to the weights of
        crops and texts. Without crops the whole image stands for one.
        """
        present = texts.present.to(texts.vectors.dtype)
        b = (present / present.sum(dim=1, keepdim=True)).nan_to_num(1 / present.shape[1])

        def posed(f: Tensor, cosines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            some = slice(min(1, f.shape[1] - 1), None)
            m = (1 - self.theta) * cosines[:, :, :1] + self.theta * cosines[:, :, some]
            return m, _kept(f[:, 0], f[:, some]), b.expand(len(f), -1, -1)

        return posed


class Lazsl(LazslCrops):
    """Transport between random squares and CLIP-D's descriptors."""

    published: ClassVar[Mapping[str, Any]] = {"squares.alpha": 0.6, "squares.beta": 0.9}

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and 90 squares."""
        return {"image": 1, "squares": 90}


def _kept(image: Tensor, crops: Tensor) -> Tensor:
    """Weigh crops that are as similar to the image as the mean, equally: (images, crops)."""
    import torch

    likeness = (crops @ image[..., None])[..., 0]
    rounding = 8 * torch.finfo(likeness.dtype).eps  # the mean of equal numbers may exceed them
    kept = (likeness >= likeness.mean(dim=1, keepdim=True) - rounding).to(likeness.dtype)
    return kept / kept.sum(dim=1, keepdim=True)
