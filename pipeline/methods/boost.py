"""BoostAdapter: TDA's caches, and an image's own sure views beside them (Zhang et al., 2024).

An image is seen with random crops of it. The tenth of these views with the lowest entropies enters
the positive cache for this image alone: each for the class that it predicts, with room for `delta`
more. The negative cache keeps the images of medium entropy that came last, in the authors' code.
The image itself is scored, as in the paper on fine-grained datasets; on variants of ImageNet the
paper scores the mean of the sure views, which this method does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import MethodInputs, Scorer, Views, stacked
from pipeline.methods.config import ScoresConfig
from pipeline.methods.online import exact
from pipeline.methods.tda import (
    NEGATIVE,
    NEGATIVE_BETA,
    POSITIVE,
    Tda,
    is_medium,
    lowering,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.timeline import Members

SURE = 0.1
"""Share of the views that are sure."""


class BoostAdapter(Tda):
    """TDA with sure views of the image in its positive cache."""

    n: int = Field(default=63, ge=0, le=10_000)
    """Random crops besides the image."""
    delta: int = Field(default=0, ge=0, le=1000)
    """Room of the positive cache for each class, beyond TDA's, once an image's own views are in it.
    The authors chose a value for each dataset: 0 for Pets and DTD, 3 for Food-101.
    """

    texts: ClassVar[tuple[str, ...]] = ("tda",)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the random crops."""
        return {"image": 1, **({"augmented": self.n} if self.n else {})}

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer from the caches' members over time."""
        import torch
        import torch.nn.functional as F

        from pipeline.kernels.confidence import entropy
        from pipeline.kernels.matching import first_equal
        from pipeline.kernels.sums import sums_at
        from pipeline.kernels.timeline import members

        texts, wanted = inputs.texts["tda"], self.views(inputs.config)
        scale, means = inputs.config.scale, exact(texts.means())
        everything = self.stream(inputs, means, [texts])
        doubts, labels, times = everything.entropies, everything.labels, everything.times.tolist()
        cached = members(labels.tolist(), doubts.tolist(), times, POSITIVE).to(means.device)
        last = torch.where(is_medium(doubts, len(means)), labels, -1).tolist()
        negative = members(last, [-time for time in times], times, NEGATIVE).to(means.device)
        positive = by_doubt(cached, doubts)
        sure, unsure = (everything.vectors[each.image] for each in (positive, negative))
        raised = F.one_hot(positive.label, len(means)).to(means.dtype)
        lowered, first = lowering(scale * unsure @ means.T), first_equal([texts]).to(means.device)

        def score(images: slice, views: Views) -> Tensor:
            own, now = exact(stacked(views, wanted)), everything.times[images]
            f, (v, logits) = own[:, 0], sure_views(own, scale * own @ means.T)
            predicted, inside = first[logits.argmax(dim=2)], positive.present(now)
            cache = positive.label, doubts[positive.image], inside
            stay, enter = together(cache, (predicted, entropy(logits)), POSITIVE + self.delta)
            raising = self.gain(f @ sure.T) * stay
            by_views = self.gain((v @ f[..., None])[..., 0]) * enter
            unlike = (NEGATIVE_BETA * (f @ unsure.T - 1)).exp() * negative.present(now)
            result = scale * f @ means.T + raising @ raised - unlike @ lowered
            return (result + sums_at(predicted, by_views, len(means))) / scale

        return score

    def gain(self, cosines: Tensor) -> Tensor:
        """Return the addition of a member of the positive cache to the logit of its class."""
        return self.alpha * (self.beta * (cosines - 1)).exp()


def sure_views(views: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sure views of each image, (images, sure, dim), and their logits, (images, sure,
    classes); by ascending entropy.
    """
    import torch

    from pipeline.kernels.confidence import entropy

    order = entropy(logits).argsort(dim=1, stable=True)[:, : int(SURE * views.shape[1])]
    rows = torch.arange(len(views), device=views.device)[:, None]
    return views[rows, order], logits[rows, order]


def by_doubt(cached: Members, doubts: Tensor) -> Members:
    """Sort members by class, and within a class by the doubt about their image, then by entry."""
    import numpy as np
    import torch

    keys = doubts[cached.image].cpu().numpy(), cached.label.cpu().numpy()
    order = torch.from_numpy(np.lexsort(keys)).to(doubts.device)
    parts = cached.image, cached.label, cached.enters, cached.leaves
    return type(cached)(*(part[order] for part in parts))


def together(
    cache: tuple[Tensor, Tensor, Tensor], own: tuple[Tensor, Tensor], room: int
) -> tuple[Tensor, Tensor]:
    """Put an image's own views into a cache that keeps the least doubt of each class.

    Among equal doubts, what is in the cache stays before what comes, and a view before a later one.

    Args:
        cache: Class and doubt of each member, (members,), sorted by both, and whether it is there
            when each image comes, bool (images, members).
        own: Class and doubt of each view, by ascending doubt, (images, views).
        room: Most members and views of a class.

    Returns:
        Members that stay, bool (images, members).
        Views that enter, bool (images, views).
    """
    import torch

    labels, doubts, inside = cache
    of_view, doubt = own
    same = of_view[..., None] == labels  # (images, views, members)
    ahead = inside.cumsum(dim=1) - inside.long()
    starts = torch.searchsorted(labels, labels)
    rank = ahead - ahead[:, starts]
    stay = inside & (rank + (same & (doubt[..., None] < doubts)).sum(dim=1) < room)
    members_before = (inside[:, None] & same & (doubts <= doubt[..., None])).sum(dim=2)
    alike = of_view[:, :, None] == of_view[:, None]
    views_before = alike.tril(-1).sum(dim=2)
    return stay, members_before + views_before < room
