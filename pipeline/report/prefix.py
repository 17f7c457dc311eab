"""Accuracy over N from one run: its crops are a prefix of one stream, so fewer are a part of them.

Methods that explain their scores, and read more crops for a larger N, are scored again with the
first crops of each image. Where that would take long, an even sample of the images is scored, and
its paired difference from the stored N is added to the stored accuracy of all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.explain.views import beside, identity_of
from pipeline.kernels.statistics import paired
from pipeline.methods.base import Method, MethodInputs, Scorer, SumOverViews, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS
from pipeline.methods.support import SUPPORT
from pipeline.texts.vectors import text_vectors
from pipeline.views.readers import DrawnReader, ExpectedReader, ViewReader, outcomes, patch_probs

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.kernels.matching import Descriptions
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

    scores: Artifact
    """Artifact of the stage `scores`."""
    identity: dict[str, Any]
    """Its identity."""
    classes: pd.DataFrame
    """All classes: label, name, present."""

    @classmethod
    def of(cls, scores: Artifact) -> Rescored:
        """Open stored scores."""
        return cls(scores, identity_of(scores), scores.table("classes"))

    @cached_property
    def config(self) -> ScoresConfig:
        """Settings of the section `scores`."""
        return ScoresConfig.model_validate(self.identity["config"]["config"])

    def growing(self) -> dict[str, Method]:
        """Return the methods that sum over views, more of them for a larger N: quick to rescore."""
        stored = self.identity["config"]["methods"]
        summed = {n: METHODS[n] for n in stored if n in METHODS}
        known = {n: kind for n, kind in summed.items() if issubclass(kind, SumOverViews)}
        methods = {name: kind.model_validate(stored[name]) for name, kind in known.items()}
        one = self.config.model_copy(update={"n": 1})
        if self.config.n == 1:
            return {}
        return {n: m for n, m in methods.items() if m.views(self.config) != m.views(one)}

    def curve(self, name: str, method: Method, rows: pd.DataFrame) -> dict[str, Any]:
        """Return top-1 over N with its interval, and how many images were scored for it.

        Args:
            name: Name of the method.
            method: The method with its settings.
            rows: Its stored scores, a row per image.
        """
        sizes = numbers(self.config.n)
        chosen = self._sample(method, len(rows), sum(sizes[:-1]))
        labels, correct = (rows[name].to_numpy()[chosen] for name in ("label", "correct"))
        stored = float(rows["correct"].mean())
        points = []
        for n, predicted in self._predicted(method, chosen, len(rows), sizes[:-1]).items():
            found = paired(predicted == labels, correct)
            ends = {"low": stored + found.low, "high": stored + found.high}
            points.append({"n": n, "top1": stored + found.difference, **ends})
        points.append({"n": self.config.n, "top1": stored, "low": stored, "high": stored})
        return {"method": name, "points": points, "images": len(chosen), "of": len(rows)}

    def _sample(self, method: Method, images: int, crops: int) -> np.ndarray:
        """Choose images evenly over the index, as many as can be scored soon."""
        texts = sum(sum(self._texts[name].counts) for name in method.texts)
        branches = len(method.views(self.config))
        count = min(images, max(FEWEST, PRODUCTS // max(1, crops * branches * texts)))
        return np.unique(np.linspace(0, images - 1, count).astype(int))

    def _predicted(
        self, method: Method, chosen: np.ndarray, images: int, sizes: list[int]
    ) -> dict[int, np.ndarray]:
        """Predict the label of each chosen image from its first n crops, for each n of `sizes`."""
        import torch

        views = method.views(self.config)
        readers = {name: self._reader(name, count, images) for name, count in views.items()}
        scorers = {n: self._scorer(method, n, images) for n in sizes}
        found: dict[int, list[np.ndarray]] = {n: [] for n in sizes}
        with torch.inference_mode():
            for places in _blocks(chosen):
                block = {name: _read(reader, places) for name, reader in readers.items()}
                rows = slice(int(places[0]), int(places[-1]) + 1)
                for n, scorer in scorers.items():
                    first = {name: self._first(v, name, method, n) for name, v in block.items()}
                    best = scorer(rows, first)[:, self._columns].argmax(dim=1)
                    found[n].append(self._labels[best.numpy()])
        return {n: np.concatenate(parts) for n, parts in found.items()}

    def _scorer(self, method: Method, n: int, images: int) -> Scorer:
        """Build the scorer of a method for another number of crops."""
        config = self.config.model_copy(update={"n": n})
        texts = {name: self._texts[name] for name in method.texts}
        return method.scorer(MethodInputs(texts, config, images))

    def _first(self, view: ViewVectors, name: str, method: Method, n: int) -> ViewVectors:
        """Return the first n of views whose number is N; others as they are."""
        stored = self.config.n
        if method.views(self.config.model_copy(update={"n": n})).get(name) != n:
            return view
        if view.weights is not None:
            return ViewVectors(view.vectors, view.weights * (n / stored))
        return ViewVectors(view.vectors[:, :n])

    def _reader(self, name: str, count: int, images: int) -> ViewReader:
        upstream = self.identity["upstream"]
        stored = beside(self.scores, f"embeddings-{name}", upstream["views"][name])
        array, drawn = stored.array("embeddings"), upstream.get("drawn", {})
        if name not in drawn:
            return ViewReader(name, array, count)
        draws = beside(self.scores, f"crops-{name}", drawn[name])
        if self.config.expectation:
            return ExpectedReader(name, array, count, patch_probs(draws, images))
        return DrawnReader(name, array, count, outcomes(draws, images, count))

    @cached_property
    def _texts(self) -> dict[str, Descriptions]:
        """Vectors of the competing classes' texts, by text set."""
        import torch

        present = torch.tensor(self.classes["present"].to_numpy())
        found = {}
        for name, key in self.identity["upstream"]["texts"].items():
            if name == SUPPORT:  # no method that sums over views reads it
                continue
            texts = beside(self.scores, f"descriptions-{name}", key)
            vectors = text_vectors(texts, len(self.classes))
            found[name] = vectors.of(present) if self.config.classes == "present" else vectors
        return found

    @cached_property
    def _labels(self) -> np.ndarray:
        """Labels of the present classes."""
        return np.flatnonzero(self.classes["present"].to_numpy())

    @property
    def _columns(self) -> Any:
        """Places of the present classes among the competing ones."""
        competing = self.config.classes == "all"
        return self._labels if competing else np.arange(len(self._labels))


def numbers(most: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50 and so on below a number, and the number itself."""
    steps = (step * 10**power for power in range(9) for step in STEPS)
    return [*(step for step in steps if step < most), most]


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
