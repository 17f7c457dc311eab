"""DMN-ZS: a memory of images whose vectors adapt each class to the image (Zhang et al., 2024).

The memory keeps the surest images of each predicted class. For an image, the vectors of a class in
it, and its text, are averaged by their similarity with the image; the image enters before it is
scored. A class scores its zero-shot probability and that by the adapted vectors. The authors search
the weight between the two on the evaluated labels; here it is 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import MethodInputs, Scorer, Views
from pipeline.methods.config import ScoresConfig
from pipeline.methods.online import Online, exact

if TYPE_CHECKING:
    from torch import Tensor


class DmnZs(Online):
    """Sum of zero-shot probabilities and those of a memory over the stream."""

    room: int = Field(default=50, ge=1)
    """Images of each class in the memory."""
    beta: float = Field(default=5.5, ge=0)
    """Sharpness of similarities in the memory."""

    texts: ClassVar[tuple[str, ...]] = ("tda", "cupl")

    def probabilities(self, scores: Tensor, config: ScoresConfig) -> Tensor:
        """Return the mean of both probabilities, of the classes present."""
        return scores / scores.sum(dim=-1, keepdim=True)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer from the memory's members over time."""
        import torch

        from pipeline.kernels.matching import joined
        from pipeline.kernels.timeline import members

        both = [inputs.texts[name] for name in self.texts]
        scale, means = inputs.config.scale, exact(joined(both).means())
        stream = self.stream(inputs, means, both)
        memory = members(
            stream.labels.tolist(), stream.entropies.tolist(), stream.times.tolist(), self.room
        ).to(means.device)
        kept = [torch.nonzero(memory.label == c)[:, 0] for c in range(len(means))]
        vectors = stream.vectors[memory.image]

        def score(images: slice, views: Views) -> Tensor:
            f = exact(views["image"].vectors[:, 0])
            present = memory.present(stream.times[images])
            weights = (self.beta * (f @ vectors.T - 1)).exp() * present
            text_weights = (self.beta * (f @ means.T - 1)).exp()
            cosines = torch.empty_like(text_weights)
            for c, some in enumerate(kept):
                a = weights[:, some] @ vectors[some] + text_weights[:, c, None] * means[c]
                cosines[:, c] = torch.cosine_similarity(f, a, dim=1)
            zero_shot = (scale * f @ means.T).softmax(dim=1)
            return zero_shot + (scale * cosines).softmax(dim=1)

        return score
