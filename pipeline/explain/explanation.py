"""The explanation of one image's scores by one method, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Branch:
    """Views of one kind, and the weighted cosines that make up their part of the scores."""

    numbers: np.ndarray
    """Number of each view among those of its kind, int64 (views,)."""
    counts: np.ndarray
    """Number of times that each view counts, float64 (views,)."""
    places: pd.DataFrame
    """Place of each view: `space` (`pixels` or `tokens`), left, top, right, bottom."""
    weights: np.ndarray
    """Weight of each cosine, float64 (views, classes, texts); zero where padded."""
    cosines: np.ndarray
    """Cosines of views and descriptions, float64 (views, classes, texts)."""

    @cached_property
    def contributions(self) -> np.ndarray:
        """Summands of the scores: weight times cosine, float64 (views, classes, texts)."""
        return np.asarray(self.weights * self.cosines)

    @cached_property
    def by_class(self) -> np.ndarray:
        """Contribution of each view to the score of each class, float64 (views, classes)."""
        return np.asarray(np.einsum("vct,vct->vc", self.weights, self.cosines))


@dataclass(frozen=True)
class Explanation:
    """Contributions of views and descriptions to an image's scores, for the classes present."""

    image: int
    """Number of the image in the index."""
    image_id: str
    label: int
    method: str
    scores: pd.Series
    """Stored score of each class, by label."""
    names: list[str]
    """Names of all classes, by label."""
    texts: pd.DataFrame
    """Texts that contributions are divided among: label, position in the class, text."""
    branches: Mapping[str, Branch]
    """Views that make up the scores, by name."""

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of the classes present, ascending, int64 (classes,)."""
        return self.scores.index.to_numpy()

    @property
    def predicted(self) -> int:
        """Label of the class with the highest score; of the first one among equal scores."""
        return int(self.labels[self.scores.to_numpy().argmax()])

    @property
    def rival(self) -> int | None:
        """Label of the image if it is not predicted, or else of the second class; None without."""
        if self.predicted != self.label:
            return self.label
        others = self.labels != self.predicted
        if not others.any():
            return None
        return int(self.labels[others][self.scores.to_numpy()[others].argmax()])

    def sums(self) -> np.ndarray:
        """Return the sum of the contributions to each class, float64 (classes,)."""
        parts = [branch.by_class.sum(axis=0) for branch in self.branches.values()]
        return np.asarray(np.sum(parts, axis=0))

    def table(self, by: str) -> pd.DataFrame:
        """Return the table of a kind: `text`, `class` or `view`; ConfigError for another."""
        tables = {"text": self.by_text, "class": self.by_class, "view": self.by_view}
        if by not in tables:
            raise ConfigError(f"no table by {by!r}; {did_you_mean(by, tables)}")
        return tables[by]()

    def by_text(self, labels: list[int] | None = None) -> pd.DataFrame:
        """Build a table with a row for every view and description.

        Columns: branch, view (its number), label and class of the description, position (its number
        in the class), text, cosine, weight, contribution (weight times cosine).

        Args:
            labels: Labels of the classes to list; None for all that are present.
        """
        import pandas as pd

        chosen = self._texts(labels)
        places, positions = chosen["place"].to_numpy(), chosen["position"].to_numpy()
        parts = []
        for name, branch in self.branches.items():
            count = len(branch.counts)
            repeated = chosen.iloc[np.tile(np.arange(len(chosen)), count)].reset_index(drop=True)
            values = {
                "cosine": branch.cosines[:, places, positions].ravel(),
                "weight": branch.weights[:, places, positions].ravel(),
                "contribution": branch.contributions[:, places, positions].ravel(),
            }
            views = pd.DataFrame({"branch": name, "view": np.repeat(branch.numbers, len(chosen))})
            columns = repeated[["label", "class", "position", "text"]]
            parts.append(pd.concat([views, columns, pd.DataFrame(values)], axis=1))
        return pd.concat(parts, ignore_index=True)

    def by_class(self) -> pd.DataFrame:
        """Build a table with a row for every view and class present.

        Columns: branch, view (its number), label, class, contribution.
        """
        import pandas as pd

        names = [self.names[label] for label in self.labels]
        parts = [
            pd.DataFrame(
                {
                    "branch": name,
                    "view": np.repeat(branch.numbers, len(names)),
                    "label": np.tile(self.labels, len(branch.counts)),
                    "class": names * len(branch.counts),
                    "contribution": branch.by_class.ravel(),
                }
            )
            for name, branch in self.branches.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def by_view(self, rival: int | None = None) -> pd.DataFrame:
        """Build a table with a row for every view: what it adds to the predicted class and a rival.

        Columns: branch, view (its number), count (how often it counts), space (`pixels` or
        `tokens`), left, top, right, bottom (right and bottom lie outside), predicted and rival
        (contributions to the two scores), difference (predicted minus rival).

        Args:
            rival: Label of the class to compare the predicted one with; None for `self.rival`.
        """
        import pandas as pd

        other = self.rival if rival is None else rival
        parts = []
        for name, branch in self.branches.items():
            predicted = branch.by_class[:, self._place(self.predicted)]
            against = 0 * predicted if other is None else branch.by_class[:, self._place(other)]
            head = {"branch": name, "view": branch.numbers, "count": branch.counts}
            tail = {"predicted": predicted, "rival": against, "difference": predicted - against}
            parts.append(pd.concat([pd.DataFrame(head), branch.places, pd.DataFrame(tail)], axis=1))
        return pd.concat(parts, ignore_index=True)

    def _place(self, label: int) -> int:
        self._check_present([label])
        return int(np.searchsorted(self.labels, label))

    def _check_present(self, labels: Iterable[int]) -> None:
        """Raise ConfigError for a label whose class has no images, and so no score."""
        for label in labels:
            if label not in self.labels:
                raise ConfigError(f"no class {label} is scored; labels: {_few(self.labels)}")

    def _texts(self, labels: list[int] | None) -> pd.DataFrame:
        """Return the texts of some present classes that count, with the place of their class."""
        most = next(iter(self.branches.values())).weights.shape[2]
        wanted = self.labels if labels is None else labels
        self._check_present(wanted)
        table = self.texts[(self.texts["position"] < most) & self.texts["label"].isin(wanted)]
        found: pd.DataFrame = table.assign(
            place=np.searchsorted(self.labels, table["label"]),
            **{"class": [self.names[label] for label in table["label"]]},
        )
        return found


def _few(labels: np.ndarray) -> str:
    """Return labels as text, of many only the first."""
    return ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")
