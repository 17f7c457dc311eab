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
            absent = ~memory.present(stream.times[images])
            remembered = (self.beta * f @ vectors.T).masked_fill(absent, -torch.inf)
            of_texts = f @ means.T
            cosines = torch.empty_like(of_texts)
            for c, some in enumerate(kept):
                both = torch.cat([remembered[:, some], self.beta * of_texts[:, c, None]], dim=1)
                weights = both.softmax(dim=1)  # in shares, which do not underflow as exp does
                a = weights[:, :-1] @ vectors[some] + weights[:, -1:] * means[c]
                cosines[:, c] = torch.cosine_similarity(f, a, dim=1)
            return (scale * of_texts).softmax(dim=1) + (scale * cosines).softmax(dim=1)

        return score
