"""AWT: transport between views and texts that are weighed by their certainty (Zhu et al., 2024).

A view weighs the more, the lower the entropy of its prediction. A text of a class weighs the more,
the lower the entropy of the whole image's prediction with this text in place of the class's mean
logit. A class scores the cosines that optimal transport from views to its texts gains. Its paper's
views are random resized crops; on the crops of ABS it is `awt-crops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

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


class AwtCrops(Method):
    """Transport between the image with the crops that ABS reads and CuPL's sentences."""

    temperature: float = Field(default=0.5, gt=0)
    """Divisor of entropies in the softmax over views, and over a class's texts."""
    eps: float = Field(default=0.1, ge=1e-2, le=10)
    """Factor of the entropy of a transport plan."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Steps of Sinkhorn's iteration; None until it converges."""

    texts: ClassVar[tuple[str, ...]] = ("cupl",)
    explained_by = "cupl"
    default: ClassVar[bool] = False

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the crops of ABS."""
        return image_and_crops(config)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that transports a few images at a time."""
        from pipeline.kernels.transport import similarity_blocks, transported

        texts, wanted = self.used(inputs), self.views(inputs.config)
        masses = self.masses(texts, inputs.config)

        def score(images: slice, views: Views) -> Tensor:
            blocks = similarity_blocks(stacked(views, wanted), texts)
            return by_blocks(blocks, gain, images)

        def gain(v: Tensor, cosines: Tensor) -> Tensor:
            return transported(cosines, *masses(v, cosines), self.eps, steps=self.steps)

        return score

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build a function that returns the transport plans, in single precision as the scores."""
        import torch

        from pipeline.kernels.transport import similarity_blocks, transport_plan

        texts, wanted = self.used(inputs).to(torch.float32), self.views(inputs.config)
        masses = self.masses(texts, inputs.config)

        def weigh(views: Views) -> dict[str, Tensor]:
            blocks = similarity_blocks(stacked(views, wanted).float(), texts)
            plans = [plan(*block) for block in blocks]
            return unstacked(torch.cat(plans).transpose(1, 2).double(), wanted)

        def plan(v: Tensor, cosines: Tensor) -> Tensor:
            return transport_plan(cosines, *masses(v, cosines), self.eps, steps=self.steps)

        return weigh

    def masses(
        self, texts: Descriptions, config: ScoresConfig
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the function from views and their cosines to the weights of views and texts."""
        averages = texts.averages()

        def weighed(v: Tensor, cosines: Tensor) -> tuple[Tensor, Tensor]:
            logits = config.scale * v @ averages.T
            image = config.scale * cosines[:, :, 0]
            by_text = self.text_weights(logits[:, 0], image, texts.present)
            return self.view_weights(logits), by_text

        return weighed

    def used(self, inputs: MethodInputs) -> Descriptions:
        """Return the first `scores.m` sentences of each class."""
        return inputs.texts["cupl"].first(inputs.config.m)

    def view_weights(self, logits: Tensor) -> Tensor:
        """Weigh views by the entropy of their predictions.

        Args:
            logits: Mean over texts of each class's logits, (images, views, classes).

        Returns:
            (images, views); rows sum to 1.
        """
        from pipeline.kernels.confidence import entropy

        return (-entropy(logits) / self.temperature).softmax(dim=1)

    def text_weights(self, mean: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        """Weigh a class's texts by the entropy of the whole image's prediction with them.

        Args:
            mean: Mean logits of the whole image, (images, classes).
            logits: Logits of the whole image with all texts, (images, classes, most).
            present: False where there is no text, (classes, most).

        Returns:
            (images, classes, most); sums over a class's texts are 1.
        """
        import torch

        from pipeline.kernels.confidence import entropy_with

        certain = (-entropy_with(mean, logits) / self.temperature).masked_fill(~present, -torch.inf)
        return certain.softmax(dim=2).nan_to_num(1 / present.shape[1])  # a class without texts


class Awt(AwtCrops):
    """Transport between the image with random resized crops of it and templated sentences."""

    n: int = Field(default=50, ge=0, le=10_000)
    """Random crops besides the image."""

    texts: ClassVar[tuple[str, ...]] = ("awt",)
    explained_by = "awt"

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the random crops."""
        return {"image": 1, **({"augmented": self.n} if self.n else {})}

    def used(self, inputs: MethodInputs) -> Descriptions:
        """Return the template alone and the first `scores.m` sentences."""
        m = inputs.config.m
        return inputs.texts["awt"].first(None if m is None else 1 + m)
