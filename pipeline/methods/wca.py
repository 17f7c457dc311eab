"""WCA: weighted visual-text cross-alignment over random square crops (Li et al., 2024; Eq. 2).

As in its released code, `n` squares are drawn from the pool with replacement, at the same positions
of the pool for all images; another seed is another run. All descriptions are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.core.section import MAX_SEED
from pipeline.methods.base import Method, MethodInputs, Scorer, Views, Weigher
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor


class Wca(Method):
    """Cosine of the weighted mean of an image's crops with the weighted mean of a class's
    descriptions.
    """

    pool: int | None = Field(default=None, ge=1, le=10_000)
    """Squares per image that are embedded; None for 5 where `n` is 3, as 100 for 60."""
    n: int | None = Field(default=None, ge=1, le=10_000)
    """Squares drawn from the pool; None for as many as `scores.n`."""
    image_scale: float = Field(default=4.0, ge=-20, le=20)
    """Logarithm of the factor of cosines in the softmax over crops, for a logit scale of 100."""
    text_scale: float = Field(default=2.0, ge=-20, le=20)
    """Logarithm of the factor of cosines in the softmax over descriptions, for a logit scale of
    100.
    """
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed that draws from the pool."""

    texts: ClassVar[tuple[str, ...]] = ("clip", "cupl")
    explained_by = "cupl"
    of_sets: ClassVar[bool] = True

    def completed(self, config: ScoresConfig) -> Wca:
        """Let the number of draws and the pool follow from N where they are not given."""
        n, pool = self.counts(config)
        return self.model_copy(update={"n": n, "pool": pool})

    def counts(self, config: ScoresConfig) -> tuple[int, int]:
        """Return the number of draws, and of squares in the pool."""
        n = self.n or config.n
        return n, self.pool or -(-5 * n // 3)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image, which weighs the squares, and the pool of squares."""
        return {"image": 1, "squares": self.counts(config)[1]}

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer; texts are averaged once, images block by block."""

        from pipeline.kernels.matching import aligned_image, aligned_texts, similarity

        relative, labels = inputs.config.scale / 100.0, inputs.texts["clip"].means()
        scale = relative * math.exp(self.text_scale)
        texts = aligned_texts(labels, inputs.texts["cupl"], scale)

        places = self.places(inputs)

        def score(images: slice, views: Views) -> Tensor:
            image = views["image"].vectors[:, 0]
            pool = views["squares"].vectors
            squares = _taken(pool, places(images))
            aligned = aligned_image(image, squares, relative * math.exp(self.image_scale))
            return similarity(aligned, texts)

        return score

    def places(self, inputs: MethodInputs) -> Callable[[slice], Tensor]:
        """Return the function of some images that returns the places drawn for each.

        Places are positions in the pool, int64 (images, n); one row stands for all images.
        """
        import torch

        places = self.completed(inputs.config).drawn()
        drawn = torch.tensor([places], device=inputs.texts["clip"].vectors.device)
        return lambda images: drawn

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build a function that multiplies the weights of squares and descriptions.

        A square has one row, however often it was drawn from the pool.
        """

        from pipeline.kernels.sums import sums_at
        from pipeline.kernels.weights import aligned_image_weights, aligned_text_weights

        relative, labels = inputs.config.scale / 100.0, inputs.texts["clip"].means()
        by_text = aligned_text_weights(
            labels, inputs.texts["cupl"], relative * math.exp(self.text_scale)
        )
        places = self.places(inputs)

        def weigh(views: Views) -> dict[str, Tensor]:
            image, pool = views["image"].vectors[:, 0], views["squares"].vectors
            drawn = places(slice(0, len(pool))).expand(len(pool), -1)
            squares = _taken(pool, drawn)
            scale = relative * math.exp(self.image_scale)
            by_draw = aligned_image_weights(image, squares, scale)
            by_square = sums_at(drawn, by_draw, pool.shape[1])
            return {"squares": by_square[..., None, None] * by_text}

        return weigh

    def drawn(self) -> list[int]:
        """Draw positions in the pool, n integers from 0 to pool - 1; both must be given."""
        from pipeline.kernels.sampling import integers, uniforms

        assert self.n is not None
        assert self.pool is not None
        u = uniforms(self.seed, "wca", "all images", 0, self.n)[:, 0]
        return [int(place) for place in integers(0, self.pool - 1, u)]


def _taken(pool: Tensor, places: Tensor) -> Tensor:
    """Take the vectors of a pool (images, pool, ...) at places (images or 1, n), in one launch."""
    rest = pool.shape[2:]
    places = places.view(*places.shape, *[1] * len(rest)).expand(len(pool), -1, *rest)
    return pool.gather(1, places)
