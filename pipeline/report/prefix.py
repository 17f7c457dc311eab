"""Accuracy over N from one run: its crops are a prefix of one stream, so fewer are a part of them.

Methods that sum over views, of which they read more for a larger N, are scored again with the first
crops of each image. Where that would take long, an even sample of the images is scored, and its
paired difference from the stored N is added to the stored accuracy of all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.explain.texts import ScoredTexts
from pipeline.explain.views import beside, identity_of, rows_of
from pipeline.kernels.statistics import paired
from pipeline.methods.base import Method, MethodInputs, SumOverViews, ViewScorer, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS
from pipeline.views.readers import DrawnReader, ExpectedReader, ViewReader

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from pipeline.store.artifact import Artifact

STEPS = (1, 2, 5)
"""Numbers of crops, times powers of ten."""
PRODUCTS = 300_000_000
"""Cosines of a crop and a text that are computed at most, for all N together."""
FEWEST = 64
"""Images that are scored at least."""
BLOCK = 32
"""Images that are read and scored at once, at most."""


@dataclass(frozen=True)
class Rescored:
    """Stored scores that can be computed again with fewer crops."""

    texts: ScoredTexts
    """Texts that the scores were computed with."""

    @property
    def _identity(self) -> dict[str, Any]:
        return self.texts.identity

    @cached_property
    def config(self) -> ScoresConfig:
        """Settings of the section `scores`."""
        return ScoresConfig.model_validate(self._identity["config"]["config"])

    @cached_property
    def _one(self) -> ScoresConfig:
        return self.config.model_copy(update={"n": 1})

    def growing(self) -> dict[str, SumOverViews]:
        """Return the methods that sum over views, more of them for a larger N: quick to rescore.

        Not those whose images settled early: a prefix of all N crops is not known of them.
        """
        stored = self._identity["config"]["methods"]
        kinds = {
            n: kind for n in stored if issubclass(kind := METHODS.get(n, Method), SumOverViews)
        }
        methods = {name: kind.model_validate(stored[name]) for name, kind in kinds.items()}
        growing = {n: m for n, m in methods.items() if m.views(self.config) != m.views(self._one)}
        return {n: m for n, m in growing.items() if not any(map(self._settles, m.views(self._one)))}

    def _settles(self, view: str) -> bool:
        """Return whether images have as many of a view as they took to settle."""
        return "settled" in identity_of(self._embeddings(view))

    def _embeddings(self, view: str) -> Artifact:
        return beside(
            self.texts.scores, f"embeddings-{view}", self._identity["upstream"]["views"][view]
        )

    def curve(self, name: str, method: SumOverViews, rows: pd.DataFrame) -> dict[str, Any]:
        """Return top-1 over N with its interval, and how many images were scored for it.

        Args:
            name: Name of the method.
            method: The method with its settings.
            rows: Its stored scores, a row per image.
        """
        sizes = numbers(self.config.n)
        chosen = self._sample(method, len(rows), max(sizes[:-1]))
        labels, correct = (rows[name].to_numpy()[chosen] for name in ("label", "correct"))
        stored = float(rows["correct"].mean())
        points = []
        for n, predicted in self._predicted(method, chosen, len(rows), sizes[:-1]).items():
            found = paired(predicted == labels, correct)
            ends = {"low": stored + found.low, "high": stored + found.high}
            points.append({"n": n, "top1": stored + found.difference, **ends})
        points.append({"n": self.config.n, "top1": stored, "low": stored, "high": stored})
        return {"method": name, "points": points, "images": len(chosen), "of": len(rows)}

    def _sample(self, method: SumOverViews, images: int, crops: int) -> np.ndarray:
        """Choose images evenly over the index, as many as can be scored soon."""
        texts = sum(sum(self.texts.vectors(name).counts) for name in method.texts)
        branches = len(method.views(self.config))
        count = min(images, max(FEWEST, PRODUCTS // max(1, crops * branches * texts)))
        return np.unique(np.linspace(0, images - 1, count).astype(int))

    def _predicted(
        self, method: SumOverViews, chosen: np.ndarray, images: int, sizes: list[int]
    ) -> dict[int, np.ndarray]:
        """Predict the label of each chosen image from its first n crops, for each n of `sizes`."""
        import torch

        views, one = method.views(self.config), method.views(self._one)
        readers = {name: self._reader(name, n, chosen, images) for name, n in views.items()}
        texts = {name: self.texts.vectors(name) for name in method.texts}
        score_view = method.view_scorer(MethodInputs(texts, self.config, images))
        found: list[np.ndarray] = []
        with torch.inference_mode():
            for places in _blocks(chosen):
                block = {name: _read(reader, places) for name, reader in readers.items()}
                sums = [
                    self._grown(view, views[name] != one[name], score_view, sizes)
                    for name, view in block.items()
                ]
                best = sum(sums[1:], start=sums[0])[..., self._columns].argmax(dim=-1)
                found.append(self._labels[best.numpy()])
        return dict(zip(sizes, np.concatenate(found, axis=1), strict=True))

    def _grown(
        self, view: ViewVectors, grows: bool, score_view: ViewScorer, sizes: list[int]
    ) -> Tensor:
        """Sum the scores of the first n of a view, for each n: (sizes, images, classes).

        Of views that count by weight, n of N do. A view that does not grow counts as it is.
        """
        import torch

        if not grows:
            return score_view(view)[None]
        if view.weights is not None:
            return torch.tensor(sizes)[:, None, None] / self.config.n * score_view(view)
        ends = pairwise([0, *sizes])
        steps = [score_view(ViewVectors(view.vectors[:, start:end])) for start, end in ends]
        return torch.stack(list(accumulate(steps)))

    def _reader(self, name: str, count: int, chosen: np.ndarray, images: int) -> ViewReader:
        """Open the views of some images; draws of others are not read."""
        array = self._embeddings(name).array("embeddings")
        drawn = self._identity["upstream"].get("drawn", {})
        if name not in drawn:
            return ViewReader(name, array, count)
        draws = beside(self.texts.scores, f"crops-{name}", drawn[name])

        def drawn_of(table: str, order: str, column: str) -> np.ndarray:
            columns = [order, column]
            rows = rows_of(draws, table, chosen.tolist(), self._image_block, columns)
            return by_image(rows, order, column, chosen, images)

        if self.config.expectation:
            probs = drawn_of("patch_probs", "rank", "probability")
            return ExpectedReader(name, array, count, probs)
        return DrawnReader(name, array, count, drawn_of("crops", "crop", "outcome")[:, :count])

    @property
    def _image_block(self) -> int:
        return int(self._identity["config"]["image_block"])

    @cached_property
    def _labels(self) -> np.ndarray:
        """Labels of the present classes."""
        return np.flatnonzero(self.texts.classes["present"].to_numpy())

    @property
    def _columns(self) -> Any:
        """Places of the present classes among the competing ones."""
        competing = self.config.classes == "all"
        return self._labels if competing else np.arange(len(self._labels))


def numbers(most: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50 and so on below a number, and the number itself."""
    steps = (step * 10**power for power in range(9) for step in STEPS)
    return [*(step for step in steps if step < most), most]


def by_image(
    table: pd.DataFrame, order: str, column: str, chosen: np.ndarray, images: int
) -> np.ndarray:
    """Return a column of the chosen images' rows by image, in order; zero for other images.

    Args:
        table: Equally many rows of each chosen image.
        order: Column by which the rows of an image are ordered.
        column: Column of values.
        chosen: Numbers of the images, ascending.
        images: Number of all images.
    """
    values = table.sort_values(["image", order])[column].to_numpy().reshape(len(chosen), -1)
    found = np.zeros((images, values.shape[1]), values.dtype)
    found[chosen] = values
    return found


def _blocks(places: np.ndarray) -> list[np.ndarray]:
    """Divide ascending places into blocks."""
    return np.split(places, range(BLOCK, len(places), BLOCK))


def _read(reader: ViewReader, places: np.ndarray) -> ViewVectors:
    """Read the views of some images as methods take them, in float32."""
    import torch

    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    parts = [reader.read(slice(int(run[0]), int(run[-1]) + 1)) for run in runs]
    vectors = torch.from_numpy(np.concatenate([part[0] for part in parts])).float()
    weights = [part[1] for part in parts if part[1] is not None]
    counts = torch.from_numpy(np.concatenate(weights)).float() if weights else None
    return ViewVectors(vectors, counts)
