"""Common parts of the methods that learn from a stream of images, one after the other.

The order of the stream is a setting and part of the key. A scorer is made from all images once, and
then scores any of them as at its time in the stream: results depend neither on blocks nor workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from pipeline.core.section import MAX_SEED
from pipeline.methods.base import Method, MethodInputs, over_all

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions

ROWS = 1024
"""Rows of a product; fixed, so that it does not depend on the size of units."""
READ = 128
"""Images that are read at once."""


class Stream(NamedTuple):
    """All images and their zero-shot predictions, in the order of the index."""

    vectors: Tensor
    """Unit vectors, (images, dim)."""
    labels: Tensor
    """Predicted class, the first among equals, int64 (images,)."""
    entropies: Tensor
    """Entropy of the prediction in nats, (images,)."""
    times: Tensor
    """Position in the stream, int64 (images,)."""


class Online(Method):
    """Base of methods over a stream of images."""

    order: Literal["index", "shuffled"] = "shuffled"
    """Order of the stream: that of the index, in which classes often follow each other, or drawn by
    `seed` and the images' sha256.
    """
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of a shuffled order."""

    unexplained = "they depend on other images"
    default = False

    def stream(self, inputs: MethodInputs, means: Tensor, texts: list[Descriptions]) -> Stream:
        """Read all images and predict their classes.

        Args:
            inputs: Inputs of the method.
            means: Unit vectors of the classes, (classes, dim).
            texts: Text sets that they are made of; classes of equal texts count as the first.
        """
        import torch

        from pipeline.kernels.confidence import entropy
        from pipeline.kernels.matching import first_equal

        vectors = over_all(inputs, lambda views: exact(views["image"].vectors[:, 0]), READ)
        logits = [inputs.config.scale * part @ means.T for part in vectors.split(ROWS)]
        first = first_equal(texts).to(means.device)
        labels = first[torch.cat([part.argmax(dim=1) for part in logits])]
        entropies = torch.cat([entropy(part) for part in logits])
        times = torch.tensor(self.times(inputs), device=means.device)
        return Stream(vectors, labels, entropies, times)

    def times(self, inputs: MethodInputs) -> list[int]:
        """Return the position of each image in the stream."""
        from pipeline.kernels.sampling import uniforms

        if self.order == "index":
            return list(range(inputs.images))
        drawn = [float(uniforms(self.seed, "order", sha, 0, 1)[0, 0]) for sha in inputs.sha256]
        order = sorted(range(inputs.images), key=drawn.__getitem__)
        times = [0] * inputs.images
        for time, image in enumerate(order):
            times[image] = time
        return times


def exact(values: Tensor) -> Tensor:
    """Convert to float64, which MPS lacks: there, values stay as they are."""
    return values if values.device.type == "mps" else values.double()
