"""scores: every image against every class, by every method asked for.

Reads embeddings and description vectors. Writes `scores.parquet`, a row per image and method
(image_id, label, method, pred, correct, rank of the label, top-5, margin), and `logits.zarr`
(image, method, class) in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from pipeline.config import RUNTIME, Section
from pipeline.errors import AbsError
from pipeline.methods import METHODS, needs_of
from pipeline.options import stage_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    from pipeline.store import Store


class ScoresConfig(Section):
    """How crops are scored (section 3.4 of the paper)."""

    methods: tuple[str, ...] = tuple(METHODS)
    n: int = Field(default=60, ge=1, le=10_000)
    """Crops per branch; the first n of each image."""
    temperature: float = Field(default=0.03, ge=1e-6)
    """Of soft matching, for a CLIP whose learned logit scale is 100, as OpenAI's are."""
    logit_scale: float = Field(default=100.0, ge=1e-3, le=1e6)
    """The scale that the CLIP at hand learned: similarities are divided by
    temperature * 100 / logit_scale, so that a profile means the same on every model."""

    raw: bool = True
    feature: bool = True
    soft: bool = True
    """The components of ABS, each on or off (Table 4); without crops it takes the whole image."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for name in methods:
            needs_of(name)
        if len(set(methods)) != len(methods) or not methods:
            raise ValueError("needs one or more methods, each once")
        return methods

    @property
    def effective_temperature(self) -> float:
        """What similarities are divided by."""
        return self.temperature * 100.0 / self.logit_scale

    @property
    def views(self) -> list[str]:
        """Embeddings that the methods read."""
        return sorted({view for name in self.methods for view in self.views_of(name)})

    def views_of(self, method: str) -> list[str]:
        """What a method reads, less the crops that are switched off."""
        off = {view for view in ("raw", "feature") if not getattr(self, view)}
        return [view for view in needs_of(method).views if view not in off] or ["image"]

    @property
    def texts(self) -> list[str]:
        """Text sets that the methods read."""
        return sorted({needs_of(name).texts for name in self.methods})


@dataclass(frozen=True)
class Scores(Stage):
    """Scores of all methods over one set of embeddings."""

    config: ScoresConfig
    index: Stage
    views: Mapping[str, Stage]
    texts: Mapping[str, Stage]
    image_block: int
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "scores"
    version: ClassVar[int] = 1

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images."""
        return row_units(store.rows(self.index), self.image_block)

    def worker(self, store: Store) -> Worker:
        """Load the text vectors, open the embeddings."""
        views = {name: store.open(stage).array("embeddings") for name, stage in self.views.items()}
        texts = {name: _descriptions(store, stage) for name, stage in self.texts.items()}
        index = store.open(self.index)
        classes = len(index.table("classes"))
        return ScoresWorker(
            self.config, self.image_block, index.table("images"), classes, views, texts
        )


def _descriptions(store: Store, stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    artifact = store.open(stage)
    labels = artifact.table("texts")["label"].to_numpy()
    return np.asarray(artifact.array("embeddings")[:]), labels


@dataclass
class ScoresWorker(Worker):
    """Scores blocks of images."""

    config: ScoresConfig
    image_block: int
    images: Any
    classes: int
    views: dict[str, Any]
    texts: dict[str, tuple[np.ndarray, np.ndarray]]

    def __post_init__(self) -> None:
        """Make a scorer of each method."""
        import torch

        from pipeline.matching import Descriptions
        from pipeline.methods.needs import MatchSettings

        settings = MatchSettings(self.config.effective_temperature, self.config.soft)
        tables = {
            name: Descriptions.from_rows(
                torch.from_numpy(vectors), torch.from_numpy(labels.copy()), self.classes
            )
            for name, (vectors, labels) in self.texts.items()
        }
        self._scorers = {
            name: needs_of(name).scorer(tables[needs_of(name).texts], settings)
            for name in self.config.methods
        }

    def arrays(self) -> list[ArraySpec]:
        """`logits` (image, method, class)."""
        each = (len(self.config.methods), self.classes)
        dims = ("image", "method", "class")
        shape, chunks = (len(self.images), *each), (self.image_block, *each)
        names = {"methods": list(self.config.methods)}
        return [ArraySpec("logits", dims, shape, chunks, "float32", names)]

    def read(self, unit: Unit) -> dict[str, np.ndarray]:
        """The unit's views as stored, float16 (images, views, dim); of crops the first n."""
        found = {name: np.asarray(a[unit.rows, : self.config.n]) for name, a in self.views.items()}
        for name, views in found.items():
            if name != "image" and views.shape[1] != self.config.n:
                raise AbsError(f"embeddings-{name} has {views.shape[1]} crops, not {self.config.n}")
        return found

    def compute(self, unit: Unit, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        """Logits and what they say of each image."""
        import pandas as pd
        import torch

        views = {name: torch.from_numpy(array).float() for name, array in inputs.items()}
        with torch.inference_mode():
            logits = [
                scorer({view: views[view] for view in self.config.views_of(name)}).float().numpy()
                for name, scorer in self._scorers.items()
            ]
        images = self.images.iloc[unit.rows]
        tables = [
            judge(name, of_method, images)
            for name, of_method in zip(self.config.methods, logits, strict=True)
        ]
        return {
            "scores": pd.concat(tables, ignore_index=True),
            "logits": np.stack(logits, axis=1),
        }


def judge(method: str, logits: np.ndarray, images: Any) -> Any:
    """A row per image: prediction, rank of the label (1 is best), top-5 and margin.

    Among equal scores the class that comes first ranks higher. The margin is the label's score
    less the best other one.
    """
    import pandas as pd

    if not np.isfinite(logits).all():
        raise AbsError(f"{method}: scores that are no numbers; are temperature and weights right?")
    labels = images["label"].to_numpy()
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = (order == labels[:, None]).argmax(axis=1) + 1
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    rival = np.where(rank == 1, order[:, min(1, logits.shape[1] - 1)], order[:, 0])
    margin = own - np.take_along_axis(logits, rival[:, None], axis=1)[:, 0]
    table = {
        "image_id": images["image_id"].to_numpy(),
        "label": labels,
        "method": method,
        "pred": order[:, 0],
        "correct": rank == 1,
        "rank": rank,
        "top5": list(order[:, :5]),
        "margin": margin.astype(np.float32),
    }
    return pd.DataFrame(table)


command = stage_command("scores")
