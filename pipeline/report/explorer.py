"""Data of the crop explorer: what each crop of an image saw, matched, and moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.explain.explainer import Explainer
from pipeline.explain.explanation import Branch, Explanation
from pipeline.explain.texts import ScoredTexts
from pipeline.report.pictures import Pictures
from pipeline.report.seen import frame
from pipeline.report.settled import settled_at
from pipeline.report.stored import StoredRun
from pipeline.store.arrays import StoredArray
from pipeline.views.config import TokenGrid

if TYPE_CHECKING:
    import pandas as pd

TEXTS = 5
"""Descriptions that are listed for a crop: those that add most to any class."""
CLASSES = 8
"""Classes whose scores are listed, beside the label: those of the highest scores."""
DIGITS = 6
"""Digits after the point of contributions."""


@dataclass
class Explorer:
    """Collects the data of images for one method of a run."""

    run: StoredRun
    method: str
    scores: Mapping[str, pd.DataFrame]
    """Scores by method, a row per image."""
    images: pd.DataFrame
    """The index."""
    pictures: Pictures
    sets: ScoredTexts
    """Text sets of the scores."""
    grid: TokenGrid | None
    """CLIP's tokens; None where they are not known."""
    texts: dict[tuple[int, str], int] = field(default_factory=dict)
    """Number of each description that is shown: label and text."""

    @cached_property
    def explainer(self) -> Explainer | None:
        """Explainer of the method; None if it does not explain its scores."""
        try:
            return Explainer.of(self.sets.scores, self.method, "float32", self.sets)
        except AbsError as error:
            self.unexplained = str(error)
            return None

    unexplained: str = ""
    """Reason why the method is not explained."""

    @cached_property
    def _logits(self) -> StoredArray:
        return self.run.artifact("scores").array("logits")

    @cached_property
    def _attention(self) -> StoredArray | None:
        """Attention maps; None for a run without."""
        if "attention" not in self.run.record.artifacts:
            return None
        return self.run.artifact("attention").array("attention")

    def entry(self, row: int, groups: Sequence[str]) -> dict[str, Any]:
        """Return the data of one image, as JSON types."""
        image = self.images.iloc[row]
        mine = self.scores[self.method].iloc[row]
        found = {
            "row": row,
            "id": str(image.image_id),
            "groups": list(groups),
            "width": int(image.width),
            "height": int(image.height),
            "label": int(image.label),
            "pred": int(mine["pred"]),
            "correct": bool(mine["correct"]),
            "settled": settled_at(mine, self.run.settings.scores.n),
            "picture": self.pictures.thumbnail(image),
            "attention": self._map(row),
            "seen": frame(self.grid, image.width, image.height) if self.grid else None,
            "methods": {name: _result(rows.iloc[row]) for name, rows in self.scores.items()},
        }
        return found | self._explained(row)

    def _map(self, row: int) -> list[list[int]] | None:
        """Return the attention map of an image, as shares of its maximum from 0 to 255."""
        if self._attention is None:
            return None
        values = self._attention[row, self.run.settings.crops.layer]
        top = float(values.max())
        shares = 255 * values / top if top > 0 else values
        return [[round(float(share)) for share in line] for line in shares]

    def _explained(self, row: int) -> dict[str, Any]:
        """Return crops and class scores of an image, or the scores alone with the reason."""
        logits, labels = self._logits[row], self._logits.attrs["labels"]
        methods = list(self._logits.attrs["methods"])
        mine = logits[methods.index(self.method)]
        label = int(self.images["label"].iloc[row])
        order = [labels[i] for i in np.argsort(-mine, kind="stable")[:CLASSES]]
        shown = list(dict.fromkeys([*order, label]))
        places = [labels.index(each) for each in shown]
        found: dict[str, Any] = {
            "classes": shown,
            "scores": {
                name: [round(float(v), DIGITS) for v in logits[i, places]]
                for i, name in enumerate(methods)
            },
            "branches": {},
        }
        try:
            explanation = self.explainer.explain(row) if self.explainer else None
        except AbsError as error:
            return found | {"unexplained": str(error)}
        if explanation is None:
            return found | {"unexplained": self.unexplained}
        return found | self._crops(explanation, places)

    def _crops(self, found: Explanation, places: Sequence[int]) -> dict[str, Any]:
        labels = found.labels.tolist()
        pair = [labels.index(found.predicted)]
        pair += [] if found.rival is None else [labels.index(found.rival)]
        return {
            "rival": found.rival,
            "branches": {
                name: {
                    "sums": _rounded(branch.by_class.sum(axis=0)[list(places)]),
                    "crops": self._branch(branch, pair, found),
                }
                for name, branch in found.branches.items()
            },
        }

    def _branch(self, branch: Branch, pair: list[int], found: Explanation) -> list[dict[str, Any]]:
        """Return the distinct crops of a branch; one that was drawn repeatedly counts as often."""
        boxes = branch.places[["left", "top", "right", "bottom"]].to_numpy()
        spaces = branch.places["space"].tolist()
        crops = []
        for views in _equal(boxes, branch.counts):
            added = branch.by_class[views].sum(axis=0)[pair]
            first = views[0]
            crops.append(
                {
                    "space": spaces[first],
                    "box": [round(float(end), 2) for end in boxes[first]],
                    "count": round(float(branch.counts[views].sum()), 2),
                    "added": _rounded(added),
                    "texts": self._texts(branch, views, found),
                }
            )
        return sorted(crops, key=lambda crop: -abs(_difference(crop["added"])))

    def _texts(self, branch: Branch, views: list[int], found: Explanation) -> list[list[float]]:
        """Return number, weight, cosine and contribution of the descriptions that add most."""
        first, times = views[0], len(views)
        values = branch.weights[first] * branch.cosines[first]
        flat = values.ravel()
        most = np.argpartition(-np.abs(flat), min(TEXTS, len(flat)) - 1)[:TEXTS]
        chosen = most[np.argsort(-np.abs(flat[most]), kind="stable")]
        rows = []
        for place, position in zip(*np.unravel_index(chosen, values.shape), strict=True):
            label = int(found.labels[place])
            weight = float(branch.weights[first, place, position])
            if weight == 0:
                continue
            number = self._number(label, self._text(label, int(position)))
            cosine = float(branch.cosines[first, place, position])
            rows.append(
                [number, *_rounded(np.array([times * weight, cosine, times * weight * cosine]))]
            )
        return rows

    @cached_property
    def _first_texts(self) -> dict[int, int]:
        """Row of each class's first text among the texts of the explainer, by label."""
        assert self.explainer is not None
        rows = self.explainer.texts["label"].drop_duplicates()
        return dict(zip(rows.tolist(), rows.index.tolist(), strict=True))

    def _text(self, label: int, position: int) -> str:
        assert self.explainer is not None
        return str(self.explainer.texts["text"].iat[self._first_texts[label] + position])

    def _number(self, label: int, text: str) -> int:
        return self.texts.setdefault((label, text), len(self.texts))


def _equal(boxes: np.ndarray, counts: np.ndarray) -> list[list[int]]:
    """Group views with the same box that count at all."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for view, box in enumerate(boxes.tolist()):
        if counts[view] > 0:
            groups.setdefault(tuple(box), []).append(view)
    return list(groups.values())


def _difference(added: list[float]) -> float:
    return added[0] - (added[1] if len(added) > 1 else 0.0)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def _result(row: Any) -> dict[str, Any]:
    """Return the result of one method on one image."""
    return {
        "pred": int(row["pred"]),
        "correct": bool(row["correct"]),
        "rank": int(row["rank"]),
        "confidence": round(float(row["confidence"]), 4),
        "margin": round(float(row["margin"]), DIGITS),
    }
