"""Decisions of methods from a few views of an image, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.methods.base import MethodInputs, SumOverViews, ViewScorer, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.views.readers import Reader
from pipeline.views.settled import SettlingRule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions

IMAGES = 32
"""Images that are looked at together."""


@dataclass
class Decider:
    """Bounds the probability that more views of an image change the decision of a method."""

    rule: SettlingRule
    view: str
    """View that may stop."""
    methods: Mapping[str, SumOverViews]
    config: ScoresConfig
    texts: Mapping[str, Descriptions]
    """Text vectors of the competing classes, by text set, on the CPU."""
    predicted: Sequence[int]
    """Competing classes that can be predicted; one of each group with equal texts."""
    others: Mapping[str, Reader]
    """Readers of the views that do not stop."""
    device: torch.device
    _others: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Scores of the other views by image and method, as long as the image has not settled."""

    def __post_init__(self) -> None:
        """Build the scorer of each method."""
        self._scorers = {name: self._scorer(method) for name, method in self.methods.items()}

    def _scorer(self, method: SumOverViews) -> ViewScorer:
        texts = {name: self.texts[name].to(self.device) for name in method.texts}
        return method.view_scorer(MethodInputs(texts, self.config))

    def bounds(self, rows: Sequence[int], vectors: np.ndarray) -> np.ndarray:
        """Bound the probability of another decision, for the method that is least sure.

        Args:
            rows: Images.
            vectors: Their first n views, float16 (images, n, dim).

        Returns:
            float64 (images,).
        """
        parts = [
            self._bounds(rows[start : start + IMAGES], vectors[start : start + IMAGES])
            for start in range(0, len(rows), IMAGES)
        ]
        found = np.concatenate([np.empty(0), *parts])
        for row, bound in zip(rows, found, strict=True):
            if bound <= self.rule.p:
                self._others.pop(row, None)
        return found

    def _bounds(self, rows: Sequence[int], vectors: np.ndarray) -> np.ndarray:
        import torch

        from pipeline.kernels.settling import change_bound

        with torch.inference_mode():
            others = self._other_scores(rows)
            views = self._on_device(vectors)
            found = []
            for name, scorer in self._scorers.items():
                one_by_one = scorer(ViewVectors(views.flatten(0, 1)[:, None]))[:, self.predicted]
                scores = one_by_one.unflatten(0, vectors.shape[:2])
                at = self.rule.count, self.rule.at == "expectation"
                found.append(change_bound(scores, others[name], *at))
        return np.asarray(torch.stack(found).amax(dim=0))

    def _other_scores(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the scores of the views that do not stop, (images, classes), by method."""
        import torch

        new = [row for row in rows if row not in self._others]
        if new:
            read = {name: reader.read(np.asarray(new)) for name, reader in self.others.items()}
            views = {
                name: ViewVectors(self._on_device(v), None if w is None else self._on_device(w))
                for name, (v, w) in read.items()
            }
            for name, scorer in self._scorers.items():
                named = self.methods[name].views(self.config)
                sums = [scorer(views[other]) for other in named if other != self.view]
                total = sum(sums[1:], start=sums[0])[:, self.predicted] if sums else None
                for i, row in enumerate(new):
                    zeros = torch.zeros(len(self.predicted), device=self.device)
                    self._others.setdefault(row, {})[name] = zeros if total is None else total[i]
        return {
            name: torch.stack([self._others[row][name] for row in rows]) for name in self._scorers
        }

    def _on_device(self, values: np.ndarray) -> Tensor:
        import torch

        from pipeline.kernels.transfer import to_device

        return to_device(torch.from_numpy(values), self.device).float()
