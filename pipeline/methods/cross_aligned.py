"""WCA: weighted visual-text cross-alignment over random square crops.

Of the pool of squares, `n` are drawn with replacement, the same places in the pool for all images,
as in its code; another seed is another run. All descriptions are used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.config import MAX_SEED
from pipeline.methods.base import Given, Matching, Method, Scorer, Views

if TYPE_CHECKING:
    from torch import Tensor


class Wca(Method):
    """Weights w of crops and v of descriptions, and the cosine of the two weighted means."""

    pool: int = Field(default=100, ge=1, le=10_000)
    """Squares of each image."""
    n: int = Field(default=60, ge=1, le=10_000)
    """Squares drawn from the pool."""
    image_scale: float = Field(default=4.0, ge=-20, le=20)
    text_scale: float = Field(default=2.0, ge=-20, le=20)
    """Powers of e that cosines are multiplied by in the two softmaxes, for a logit scale of 100."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    texts: ClassVar[tuple[str, ...]] = ("clip", "cupl")

    def views(self, matching: Matching) -> dict[str, int]:
        """The image, which weighs its squares, and these."""
        return {"image": 1, "squares": self.pool}

    def scorer(self, given: Given) -> Scorer:
        """Texts are aligned once, images block by block."""
        from pipeline.kernels.matching import aligned_image, aligned_texts

        sharpness, labels = given.matching.sharpness, given.texts["clip"].means()
        scale = sharpness * math.exp(self.text_scale)
        texts = aligned_texts(labels, given.texts["cupl"], scale)

        def score(images: slice, views: Views) -> Tensor:
            image = views["image"].vectors[:, 0]
            squares = views["squares"].vectors[:, self.drawn()]
            return aligned_image(image, squares, sharpness * math.exp(self.image_scale)) @ texts.T

        return score

    def drawn(self) -> list[int]:
        """Places in the pool."""
        from pipeline.kernels.sampling import integers, uniforms

        u = uniforms(self.seed, "wca", "all images", 0, self.n)[:, 0]
        return [int(place) for place in integers(0, self.pool - 1, u)]
