"""Explain the stored scores of one method, image by image, from what is stored.

A method that explains itself scores each class by a weighted sum of cosines between views and
descriptions; the summands are the contributions. They are computed in float64, and compared with
the stored score: an explanation that does not add up to it is refused. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.datasets.image_ids import find_image
from pipeline.explain.explanation import Branch, Explanation
from pipeline.explain.texts import ScoredTexts
from pipeline.explain.views import ImageViews, StoredBranch, beside
from pipeline.methods.base import Method, MethodInputs, ViewVectors, Weigher
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import method_of
from pipeline.store.arrays import StoredArray
from pipeline.store.artifact import Artifact
from pipeline.views.config import ENDS

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions

TOLERANCE = 1e-6
"""Difference from a stored score, or share of it if that is more, that rounding to float32 explains
at temperatures of `COLD` and more.
"""
COLD = 0.03
"""Temperature below which rounding a cosine to float32 moves weights of soft matching by more."""


@dataclass(frozen=True)
class Explainer:
    """Explains the scores of one method in one artifact of scores."""

    scores: Artifact
    """Artifact of the stage `scores`."""
    name: str
    """Name of the method."""
    method: Method
    config: ScoresConfig
    sets: ScoredTexts
    """The text sets that were scored."""
    dtype: Literal["float64", "float32"] = "float64"
    """Type in which contributions are computed."""

    @classmethod
    def of(
        cls,
        scores: Artifact,
        name: str,
        dtype: Literal["float64", "float32"] = "float64",
        sets: ScoredTexts | None = None,
    ) -> Explainer:
        """Open stored scores.

        Args:
            scores: Artifact of the stage `scores`.
            name: Name of the method.
            dtype: Type in which contributions are computed. In float32 many images with many texts
                take half the time and memory, and are as exact as the stored scores.
            sets: Text sets of the scores, if they are at hand.

        Raises:
            ConfigError: For a method that is not scored or not explained.
        """
        sets = sets or ScoredTexts.of(scores)
        config = sets.identity["config"]
        if name not in config["methods"]:
            raise ConfigError(
                f"method {name!r} is not scored; {did_you_mean(name, config['methods'])}"
            )
        kind = method_of(name)
        if kind.explained_by is None:
            raise ConfigError(f"method {name!r} does not explain its scores: {kind.unexplained}")
        method = kind.model_validate(config["methods"][name])
        settings = ScoresConfig.model_validate(config["config"])
        return cls(scores, name, method, settings, sets, dtype)

    @cached_property
    def images(self) -> pd.DataFrame:
        """The index, a row per image: image_id, label, sha256, width, height."""
        index = beside(self.scores, "index", self.sets.identity["upstream"]["index"])
        return index.table("images", columns=["image_id", "label", "sha256", "width", "height"])

    @property
    def classes(self) -> pd.DataFrame:
        """All classes: label, name, present."""
        return self.sets.classes

    @cached_property
    def texts(self) -> pd.DataFrame:
        """Texts that contributions are divided among: label, position in the class, text."""
        name = self.method.explained_by
        table = self.sets.artifact(str(name)).table("texts", columns=["label", "position", "text"])
        return table.sort_values(["label", "position"], ignore_index=True)

    def row(self, image: int | str) -> int:
        """Return the number of an image, given by its number, its path or the end of its path."""
        return find_image(self.images["image_id"].tolist(), image)

    def explain(self, image: int | str) -> Explanation:
        """Explain the scores of an image, given by its number, its path or the end of its path.

        Raises:
            ConfigError: If no image, or more than one, is meant.
            AbsError: If the contributions do not add up to the stored scores.
        """
        import torch

        row = self.row(image)
        views = self._views(row)
        if any(view.vectors.ndim > 2 for view in views.values()):
            raise ConfigError(
                f"{self.name} cannot be explained where a view has several vectors: another one "
                "counts for each text; set clip.queries=mean"
            )
        vectors = {name: self._tensors(view) for name, view in views.items()}
        with torch.inference_mode():
            weights = self._weigher(row, views)(vectors)
            branches = {
                name: self._branch(
                    views[name], weight.expand(1, len(views[name].counts), -1, -1)[0]
                )
                for name, weight in weights.items()
            }
        found = Explanation(
            image=row,
            image_id=str(self.images["image_id"].iloc[row]),
            label=int(self.images["label"].iloc[row]),
            method=self.name,
            scores=self._stored_scores(row),
            names=self.classes["name"].tolist(),
            texts=self.texts,
            branches=branches,
        )
        self._check(found)
        return found

    def _branch(self, views: ImageViews, weights: Any) -> Branch:
        """Build a branch from weights (views, competing classes, texts)."""
        texts = self._explained_vectors[:, : weights.shape[2]]
        cosines = (self._tensor(views.vectors) @ texts.flatten(0, 1).T).unflatten(
            1, texts.shape[:2]
        )
        if not self._all_present:
            weights = weights[:, self._present_columns]
        parts = weights.numpy(), cosines.numpy()
        return Branch(views.numbers, views.counts, views.places, *parts)

    @cached_property
    def _explained_vectors(self) -> Tensor:
        """Vectors of the texts of present classes that contributions are divided among."""
        vectors = self._texts[str(self.method.explained_by)].vectors
        return vectors if self._all_present else vectors[self._present_columns]

    def _views(self, row: int) -> dict[str, ImageViews]:
        image = self.images.iloc[row]
        return {
            name: self._branches[name].read(image, row, count, self.config.expectation)
            for name, count in self.method.views(self.config).items()
        }

    def _tensors(self, views: ImageViews) -> ViewVectors:
        """Return the views as a method takes them."""
        return ViewVectors(self._tensor(views.vectors)[None], self._tensor(views.counts)[None])

    def _tensor(self, values: np.ndarray) -> Tensor:
        import torch

        return torch.from_numpy(values.astype(self.dtype))

    @cached_property
    def _branches(self) -> dict[str, StoredBranch]:
        names = self.method.views(self.config)
        return {name: StoredBranch.of(self.scores, self.sets.identity, name) for name in names}

    @cached_property
    def _texts(self) -> Mapping[str, Descriptions]:
        """Vectors of the competing classes' texts."""
        import torch

        dtype = getattr(torch, self.dtype)
        return {name: self.sets.vectors(name).to(dtype) for name in self.method.texts}

    def _weigher(self, row: int, views: Mapping[str, ImageViews]) -> Weigher:
        """Return the function that weighs the views of an image, and reads boxes of it alone."""
        if not self.method.boxes:
            return self._common_weigher
        boxes = {name: _boxes(views[name]) for name in self.method.boxes}
        sha256 = [str(self.images["sha256"].iloc[row])]
        inputs = MethodInputs(self._texts, self.config, images=1, sha256=sha256, boxes=boxes)
        return self.method.weigher(inputs)

    @cached_property
    def _common_weigher(self) -> Weigher:
        return self.method.weigher(MethodInputs(self._texts, self.config, len(self.images)))

    @cached_property
    def _present_columns(self) -> np.ndarray:
        """Places of the present classes among the competing ones."""
        present = self.classes["present"].to_numpy()
        competing = present if self.config.classes == "present" else np.ones_like(present)
        return np.flatnonzero(present[competing])

    @cached_property
    def _all_present(self) -> bool:
        competing = self.config.classes == "all"
        return not competing or bool(self.classes["present"].all())

    @cached_property
    def _logits(self) -> StoredArray:
        return self.scores.array("logits")

    def _stored_scores(self, row: int) -> pd.Series:
        """Return the stored score of each present class, by label."""
        import pandas as pd

        place = list(self._logits.attrs["methods"]).index(self.name)
        return pd.Series(self._logits[row, place], index=self._logits.attrs["labels"], name="score")

    def _check(self, found: Explanation) -> None:
        """Raise AbsError unless the contributions add up to the stored scores."""
        size = max(1.0, float(np.abs(found.scores).max()))
        colder = max(1.0, COLD / self.config.scaled_temperature)
        apart = np.abs(found.sums() - found.scores.to_numpy()).max()
        if not apart <= TOLERANCE * size * colder:
            raise AbsError(
                f"{found.image_id}: the stored scores of {self.name} are not the sum of their "
                f"contributions (apart by {apart:.2g}); was the method changed since? "
                "see abs verify --recompute"
            )


def _boxes(views: ImageViews) -> Tensor:
    """Return the boxes of the views of an image: int64 (1, views, 4)."""
    import torch

    return torch.tensor(views.places[list(ENDS)].to_numpy(np.int64))[None]
