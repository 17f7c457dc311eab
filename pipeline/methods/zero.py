"""ZERO: the surest views of an image vote for its class (Farina et al., 2024).

Of an image's views, the share of lowest entropy is kept; each votes for the class of its highest
cosine. Among classes of equally many votes, the surest of the other views that is for one of them
decides. Its paper's views are random resized crops; on the crops of ABS it is `zero-crops`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import Method, MethodInputs, Scorer, Views, image_and_crops, stacked
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor


class ZeroCrops(Method):
    """Votes of the surest among the image and the crops that ABS reads."""

    share: float = Field(default=0.3, gt=0, le=1)
    """Share of views that vote, rounded down, at least one."""
    eps: float = Field(default=0.0, ge=0, le=1)
    """Divisor of cosines in a softmax that divides each vote among classes; 0 for whole votes. In
    half precision the authors' code has 2^-10 where it means 0.
    """

    texts: ClassVar[tuple[str, ...]] = ("clip",)
    unexplained = "views vote, whatever their cosine"
    default: ClassVar[bool] = False

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the crops of ABS."""
        return image_and_crops(config)

    def probabilities(self, scores: Tensor, config: ScoresConfig) -> Tensor:
        """Return each class's share of the votes; equal shares where no class has a vote."""
        import torch

        votes = scores if self.eps else scores.floor()
        total = votes.sum(dim=-1, keepdim=True)
        return torch.where(total > 0, votes / total, 1 / votes.shape[-1])

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that counts votes."""
        from pipeline.kernels.matching import first_equal

        texts, wanted = inputs.texts["clip"], self.views(inputs.config)
        means, first = texts.means(), first_equal([texts]).to(texts.vectors.device)
        scale = inputs.config.scale

        def score(images: slice, views: Views) -> Tensor:
            return self.votes(stacked(views, wanted) @ means.T, scale, first)

        return score

    def votes(self, cosines: Tensor, scale: float, first: Tensor) -> Tensor:
        """Count votes.

        Args:
            cosines: (images, views, classes).
            scale: Logit scale.
            first: Class whose votes those of each class are, int64 (classes,).

        Returns:
            Votes, (images, classes); one half more for the class that decides among equals.
        """
        import torch
        import torch.nn.functional as F

        from pipeline.kernels.confidence import entropy
        from pipeline.kernels.sums import sums_at

        count, classes = max(1, int(self.share * cosines.shape[1])), cosines.shape[2]
        order = entropy(scale * cosines).argsort(dim=1, stable=True)
        if self.eps:
            kept = cosines.gather(1, order[:, :count, None].expand(-1, -1, classes))
            return (kept / self.eps).softmax(dim=-1).sum(dim=1)
        best = first[cosines.argmax(dim=2)].gather(1, order)
        votes = F.one_hot(best[:, :count], classes).sum(dim=1).to(cosines.dtype)
        leading, others = votes == votes.amax(dim=1, keepdim=True), best[:, count:]
        if not others.shape[1]:
            return votes
        decides = leading.gather(1, others)
        winner = others.gather(1, decides.int().argmax(dim=1, keepdim=True))
        half = torch.where(decides.any(dim=1, keepdim=True), 0.5, 0.0).to(votes.dtype)
        return votes + sums_at(winner, half, classes)


class Zero(ZeroCrops):
    """Votes of the surest among the image and random resized crops of it."""

    n: int = Field(default=63, ge=0, le=10_000)
    """Random crops besides the image."""

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the random crops."""
        return {"image": 1, **({"augmented": self.n} if self.n else {})}
