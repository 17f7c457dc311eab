"""BiFTA's filter of views, in front of WCA (Sun et al., 2026).

Of the pool, squares are kept in turn, each if it overlaps little with all that are kept; the draws
are then from these, for each image by itself. Its filter of texts is not released, so that this is
not the whole method and does not have its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import MethodInputs
from pipeline.methods.wca import Wca

if TYPE_CHECKING:
    from torch import Tensor


class BiftaViews(Wca):
    """WCA over squares that overlap little."""

    overlap: float = Field(default=0.85, ge=0, le=1)
    """Largest share of their union that two kept squares have in common."""
    most: int = Field(default=100, ge=1)
    """Most squares of an image that are kept."""

    default: ClassVar[bool] = False
    boxes: ClassVar[tuple[str, ...]] = ("squares",)

    def places(self, inputs: MethodInputs) -> Callable[[slice], Tensor]:
        """Return the function that draws from the kept squares of some images."""
        import torch

        from pipeline.kernels.overlap import distinct_boxes
        from pipeline.kernels.sampling import uniforms

        n, pool = self.counts(inputs.config)
        boxes = inputs.boxes["squares"][:, :pool]
        device = inputs.texts["clip"].vectors.device

        def drawn(images: slice) -> Tensor:
            kept = distinct_boxes(boxes[images], self.overlap, self.most)
            order = (~kept).int().argsort(dim=1, stable=True)
            shas = inputs.sha256[images]
            u = torch.stack([uniforms(self.seed, "bifta", sha, 0, n)[:, 0] for sha in shas])
            return order.gather(1, (u * kept.sum(dim=1, keepdim=True)).long()).to(device)

        return drawn
