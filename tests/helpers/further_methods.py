"""Minimal methods of other papers, which test that the interface of methods is general enough.

They are not tuned and not registered for users.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from pipeline.methods.base import Method, MethodInputs, Scorer, Views
from pipeline.methods.config import ScoresConfig


class Transport(Method):
    """Optimal transport between an image's crops and a class's descriptions."""

    steps: int = Field(default=5, ge=1)
    sharpness: float = Field(default=10.0, gt=0)
    texts: ClassVar[tuple[str, ...]] = ("cupl",)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        return {"raw": config.n}

    def scorer(self, given: MethodInputs) -> Scorer:
        texts = given.texts["cupl"]

        def score(images: slice, views: Views) -> Tensor:
            classes = [
                self._gain(views["raw"].vectors @ vectors[present].T)
                for vectors, present in zip(texts.vectors, texts.present, strict=True)
            ]
            return torch.stack(classes, dim=1)

        return score

    def _gain(self, likeness: Tensor) -> Tensor:
        """Sum similarities over the transport plan of a few Sinkhorn steps.

        Takes (images, crops, descriptions), returns (images,).
        """
        plan = (self.sharpness * likeness).exp()
        for _ in range(self.steps):
            plan = plan / plan.sum(dim=2, keepdim=True) / plan.shape[1]
            plan = plan / plan.sum(dim=1, keepdim=True) / plan.shape[2]
        return (plan * likeness).sum(dim=(1, 2))


class MeanShift(Method):
    """Mode of an image's feature crops, by mean shift with a Gaussian kernel from their mean."""

    bandwidth: float = Field(default=0.5, gt=0)
    steps: int = Field(default=4, ge=0)
    texts: ClassVar[tuple[str, ...]] = ("clip",)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        return {"feature": config.n}

    def scorer(self, given: MethodInputs) -> Scorer:
        means = given.texts["clip"].means()

        def score(images: slice, views: Views) -> Tensor:
            vectors = views["feature"].vectors
            mode = vectors.mean(dim=1)
            for _ in range(self.steps):
                apart = ((vectors - mode[:, None]) ** 2).sum(dim=-1)
                weights = (-apart / self.bandwidth).softmax(dim=1)
                mode = (weights[..., None] * vectors).sum(dim=1)
            return F.normalize(mode, dim=-1) @ means.T

        return score


class Voting(Method):
    """Majority vote of the squares whose predictions have the lowest entropy."""

    share: float = Field(default=0.5, gt=0, le=1)
    texts: ClassVar[tuple[str, ...]] = ("cupl",)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        return {"squares": 4}

    def scorer(self, given: MethodInputs) -> Scorer:
        means = given.texts["cupl"].means()

        def score(images: slice, views: Views) -> Tensor:
            squares = views["squares"].vectors[:, :4]
            chances = (100 * squares @ means.T).softmax(dim=-1)
            doubt = -(chances * chances.clamp(min=1e-30).log()).sum(dim=-1)
            kept = doubt.argsort(dim=1, stable=True)[:, : max(1, int(self.share * 4))]
            best = chances.argmax(dim=-1).gather(1, kept)
            return F.one_hot(best, len(means)).sum(dim=1).float()

        return score


class Cache(Method):
    """Cache of earlier images with their predictions, weighted by similarity to the image."""

    weight: float = 1.0
    texts: ClassVar[tuple[str, ...]] = ("cupl",)

    def scorer(self, given: MethodInputs) -> Scorer:
        means, block = given.texts["cupl"].means(), given.block
        assert block is not None

        def score(images: slice, views: Views) -> Tensor:
            seen = block(slice(0, images.stop))["image"].vectors[:, 0]
            thought = F.one_hot((seen @ means.T).argmax(dim=1), len(means)).float()
            own = views["image"].vectors[:, 0]
            likeness = (5 * (own @ seen.T - 1)).exp()
            places = torch.arange(images.start, images.stop)[:, None]
            earlier = torch.arange(images.stop)[None] < places
            return own @ means.T + self.weight * (likeness * earlier) @ thought

        return score


class Gaussian(Method):
    """Gaussian classes around their mean texts, with the covariance of all images."""

    shrink: float = Field(default=0.1, gt=0)
    texts: ClassVar[tuple[str, ...]] = ("clip",)

    def scorer(self, given: MethodInputs) -> Scorer:
        means, block = given.texts["clip"].means(), given.block
        assert block is not None
        starts = range(0, given.images, 2)
        rows = [block(slice(i, min(i + 2, given.images)))["image"].vectors[:, 0] for i in starts]
        everything = torch.cat(rows)
        eye = torch.eye(everything.shape[1])
        weights = torch.linalg.solve(everything.T.cov() + self.shrink * eye, means.T)
        offsets = (means.T * weights).sum(dim=0) / 2
        return lambda images, views: views["image"].vectors[:, 0] @ weights - offsets


class Greedy(Method):
    """Method that reads more crops than other methods."""

    more: int = 2
    texts: ClassVar[tuple[str, ...]] = ("cupl",)

    def views(self, config: ScoresConfig) -> dict[str, int]:
        return {"raw": config.n + self.more}

    def scorer(self, given: MethodInputs) -> Scorer:
        means = given.texts["cupl"].means()
        count = given.config.n + self.more
        return lambda images, views: views["raw"].vectors[:, :count].sum(dim=1) @ means.T


FURTHER: dict[str, type[Method]] = {
    "transport": Transport,
    "mean-shift": MeanShift,
    "voting": Voting,
    "cache": Cache,
    "gaussian": Gaussian,
}
