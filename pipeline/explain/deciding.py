"""The crops and descriptions that decided a prediction, and what they contributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.explain.explanation import Explanation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Deciding:
    """Largest parts of the margin between the predicted class and its rival.

    `cells` has a row for each of `views` and one for all other views together, and a column for
    each of `texts`.
    """

    explanation: Explanation
    views: pd.DataFrame
    """The views with the largest differences, largest first; columns of `by_view`."""
    others: pd.Series
    """Sum of all other views: predicted, rival, difference."""
    texts: pd.DataFrame
    """Texts of the predicted class, then of its rival, that contributed most: label, class,
    position, text, contribution (summed over all views).
    """
    cells: np.ndarray
    """Contributions of views and texts, float64 (views + 1, texts)."""

    @classmethod
    def of(cls, explanation: Explanation, views: int = 8, texts: int = 3) -> Deciding:
        """Choose the largest parts.

        Args:
            explanation: Explanation of an image.
            views: Views to choose, by the size of their differences.
            texts: Texts to choose of each of the two classes, by contribution.
        """
        by_view = explanation.by_view()
        size = by_view["difference"].abs().to_numpy()
        order = np.argsort(-size, kind="stable")
        chosen, left = by_view.iloc[order[:views]], by_view.iloc[order[views:]]
        rival = explanation.rival
        pair = [explanation.predicted, *([] if rival is None else [rival])]
        table = explanation.by_text(pair)
        cells = table.pivot_table(
            index=["branch", "view"], columns=["label", "position"], values="contribution"
        )
        totals = table.groupby(["label", "class", "position", "text"], sort=False)["contribution"]
        summed = totals.sum().reset_index()
        best = [summed[summed["label"] == label].nlargest(texts, "contribution") for label in pair]
        picked = _joined(best)
        columns = cells[list(zip(picked["label"], picked["position"], strict=True))]
        rows = [columns.loc[[(row.branch, row.view)]].to_numpy()[0] for row in chosen.itertuples()]
        rest = columns.to_numpy().sum(axis=0) - np.sum(rows, axis=0)
        others = left[["predicted", "rival", "difference"]].sum()
        return cls(explanation, chosen, others, picked, np.array([*rows, rest]))

    def as_dict(self) -> dict[str, Any]:
        """Return the whole as plain values, for JSON."""
        one = self.explanation
        return {
            "image": one.image,
            "image_id": one.image_id,
            "method": one.method,
            "label": self._class(one.label),
            "predicted": self._class(one.predicted),
            "rival": None if one.rival is None else self._class(one.rival),
            "margin": self.margin,
            "scores": [
                self._class(int(label)) for label in one.scores.sort_values(ascending=False).index
            ],
            "views": one.by_view().to_dict("records"),
            "deciding_views": self.views[["branch", "view"]].to_dict("records"),
            "deciding_texts": self.texts.to_dict("records"),
            "contributions": self.cells[:-1].tolist(),
        }

    @property
    def margin(self) -> float:
        """Score of the predicted class less that of its rival, as stored."""
        one = self.explanation
        rival = 0.0 if one.rival is None else float(one.scores[one.rival])
        return float(one.scores[one.predicted]) - rival

    def _class(self, label: int) -> dict[str, Any]:
        one = self.explanation
        return {"label": label, "class": one.names[label], "score": float(one.scores[label])}


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(tables, ignore_index=True)
