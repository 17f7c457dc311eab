"""Decisions of methods from a few views of an image, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.methods.base import MethodInputs, SumOverViews, ViewScorer, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.views.readers import Reader
from pipeline.views.settled import Look, RoundViews, SettlingRule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline.kernels.kriging import Prediction
    from pipeline.kernels.matching import Descriptions

IMAGES = 32
"""Images that are scored and looked at together."""
HELD_BYTES = 2**28
"""Bytes of scores that are kept from round to round; others are computed again."""


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
    _drawn: dict[int, Tensor] = field(default_factory=dict)
    """Scores of the views of an image so far, (methods, views, classes)."""
    _others: dict[int, Tensor] = field(default_factory=dict)
    """Scores of the views of an image that do not stop, (methods, classes)."""

    def __post_init__(self) -> None:
        """Build the scorer of each method."""
        import torch

        from pipeline.kernels.transfer import to_device

        self._columns = to_device(torch.tensor(self.predicted), self.device)
        self._scorers = {name: self._scorer(method) for name, method in self.methods.items()}

    def _scorer(self, method: SumOverViews) -> ViewScorer:
        texts = {name: self.texts[name].to(self.device) for name in method.texts}
        return method.view_scorer(MethodInputs(texts, self.config))

    def order(self, places: np.ndarray) -> np.ndarray:
        """Choose the order in which to take views, by their places alone.

        Where infinitely many views are meant, they stay in the order of the draws: the first ones
        are then a sample of all.

        Args:
            places: Places of all views of some images, int64 (images, N, 4).

        Returns:
            Numbers of the views, int64 (images, N).
        """
        import torch

        from pipeline.kernels.ordering import best_order

        if self.rule.at == "expectation":
            return np.broadcast_to(np.arange(places.shape[1]), places.shape[:2])
        found = best_order(torch.from_numpy(places), self.rule.p, self.rule.reach, self.rule.nugget)
        return found.numpy()

    def lacking(self, rows: Sequence[int], count: int) -> list[int]:
        """Return the images of which not the scores of the first `count` views are known here."""
        return [row for row in rows if self._views(row) != count]

    def _views(self, row: int) -> int:
        return self._drawn[row].shape[1] if row in self._drawn else 0

    def restore(self, rows: Sequence[int], count: int, earlier: Iterable[RoundViews]) -> None:
        """Score the first `count` views again of the images of which they are not known here.

        The views of a round are scored in the blocks in which they were scored before, so that no
        bit depends on who does it.

        Args:
            rows: Images.
            count: Number of views.
            earlier: Views of all units that have any of the images that lack scores.
        """
        for row in self.lacking(rows, count):
            self._drawn.pop(row, None)
        for part in earlier:
            self._take(part, set(rows))

    def take(self, views: RoundViews) -> None:
        """Score the next views of images."""
        self._take(views, set(views.rows))

    def _take(self, views: RoundViews, wanted: set[int]) -> None:
        import torch

        for part in _blocks(views.rows):
            scores = self._scores(views.vectors[part])
            for row, of_image in zip(views.rows[part], scores, strict=True):
                if row in wanted and self._views(row) == views.start:
                    known = [self._drawn[row]] if views.start else []
                    self._drawn[row] = torch.cat([*known, of_image], dim=1)

    def look(self, rows: Sequence[int], places: np.ndarray) -> Look:
        """Bound the probability of another decision, for the method that is least sure.

        Args:
            rows: Images, of which the same number of views is known.
            places: Places of all their views, known or not, in their order, int64 (images, N, 4).
        """
        looks = [self._look(rows[part], places[part]) for part in _blocks(rows)]
        found = Look(*(np.concatenate(values) for values in zip(*looks, strict=True)))
        for row, bound in zip(rows, found.bounds, strict=True):
            if bound <= self.rule.p:
                self._drawn.pop(row)
                self._others.pop(row)
        self._keep(rows)
        return found

    def _look(self, rows: Sequence[int], places: np.ndarray) -> Look:
        import torch

        from pipeline.kernels.settling import change_bound

        with torch.inference_mode():
            others = self._other_scores(rows)
            scores = torch.stack([self._drawn[row] for row in rows])
            prediction = self._prediction(torch.from_numpy(places), scores.shape[2])
            found = [
                change_bound(scores[:, i], others[:, i], self.rule.count, prediction)
                for i in range(len(self._scorers))
            ]
            return Look(torch.stack(found).amax(dim=0).numpy(), prediction.weights.numpy())

    def _prediction(self, places: Tensor, n: int) -> Prediction:
        """Predict all draws by their places, infinitely many by the mean of those taken."""
        from pipeline.kernels.kriging import by_mean, by_place

        if self.rule.at == "expectation":
            return by_mean(len(places), n, 0.0)
        return by_place(places, n, self.rule.reach, self.rule.nugget)

    def _scores(self, vectors: np.ndarray) -> Tensor:
        """Score views one by one, (images, methods, views, classes)."""
        import torch

        with torch.inference_mode():
            views = ViewVectors(self._on_device(vectors).flatten(0, 1)[:, None])
            found = [score(views)[:, self._columns] for score in self._scorers.values()]
            by_image = [scores.unflatten(0, vectors.shape[:2]) for scores in found]
        return torch.stack(by_image, dim=1)

    def _other_scores(self, rows: Sequence[int]) -> Tensor:
        """Return the scores of the views that do not stop, (images, methods, classes)."""
        import torch

        if new := [row for row in rows if row not in self._others]:
            read = {name: reader.read(np.asarray(new)) for name, reader in self.others.items()}
            views = {
                name: ViewVectors(self._on_device(v), None if w is None else self._on_device(w))
                for name, (v, w) in read.items()
            }
            none = torch.zeros(len(new), len(self.predicted), device=self.device)
            sums = []
            for name, score in self._scorers.items():
                named = self.methods[name].views(self.config)
                parts = [score(views[other])[:, self._columns] for other in named if other in views]
                sums.append(sum(parts, start=none))
            self._others |= dict(zip(new, torch.stack(sums, dim=1), strict=True))
        return torch.stack([self._others[row] for row in rows])

    def _keep(self, rows: Iterable[int]) -> None:
        """Keep the scores of some images for the next round, as far as there is room."""
        room = HELD_BYTES - sum(scores.nbytes for scores in self._drawn.values())
        for row in rows if room < 0 else ():
            self._drawn.pop(row, None)

    def _on_device(self, values: np.ndarray) -> Tensor:
        import torch

        from pipeline.kernels.transfer import to_device

        return to_device(torch.from_numpy(values), self.device).float()


def _blocks(rows: Sequence[int]) -> list[slice]:
    return [slice(start, start + IMAGES) for start in range(0, len(rows), IMAGES)]
