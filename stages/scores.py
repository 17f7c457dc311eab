"""scores: every image against every class, by every method asked for.

Reads embeddings and description vectors. Writes `scores.parquet`, a row per image and method
(image_id, label, method, pred, correct, rank of the label, top-5, margin, confidence: the
probability of the prediction), `classes.parquet` (label, name, present: whether the dataset has the
class or it only competes), and `logits.zarr` (image, method, class) in float32, over the classes
that the dataset has. Probabilities are over these too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from pipeline.config import RUNTIME, Section
from pipeline.datasets.classes import Classes
from pipeline.errors import AbsError, ConfigError
from pipeline.methods import method_of, views_read
from pipeline.methods.base import Given, Matching, Method, Scorer, View, Views
from pipeline.options import stage_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Footprint, Stage, Unit, Worker, row_units

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline.artifact import Artifact
    from pipeline.kernels.matching import Descriptions
    from pipeline.store import Store


class ScoresConfig(Section):
    """How views are scored (section 3.4 of the paper)."""

    methods: tuple[str, ...] | None = None
    """None: every method whose texts are given."""
    n: int = Field(default=60, ge=1, le=10_000)
    """Crops per branch; the first n of each image."""
    m: int | None = Field(default=50, ge=1)
    """Descriptions that ABS matches with, the first m of each class; None: all."""
    temperature: float = Field(default=0.03, ge=1e-6)
    """Of soft matching, for a CLIP whose learned logit scale is 100, as OpenAI's are."""
    logit_scale: float = Field(default=100.0, ge=1e-3, le=1e6)
    """The scale that the CLIP at hand learned: similarities are divided by
    temperature * 100 / logit_scale, so that a profile means the same on every model."""
    classes: Literal["all", "present"] = "all"
    """Which classes compete where the dataset has only some of its vocabulary: all, of which one
    that is present is then predicted, or only those that are present."""
    raw: bool = True
    feature: bool = True
    soft: bool = True
    """The components of ABS, each on or off (Table 4); without crops it takes the whole image."""
    expectation: bool = False
    """Whether the feature branch is its exact expectation, times n, in place of n draws."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in methods or ():
            method_of(name)
        if methods is not None and (len(set(methods)) != len(methods) or not methods):
            raise ValueError("needs one or more methods, each once; null for all")
        return methods

    def naming(self, methods: Iterable[str]) -> ScoresConfig:
        """The same with its methods named."""
        return self.model_copy(update={"methods": tuple(methods)})

    @property
    def matching(self) -> Matching:
        """As methods take it."""
        sharpness = self.logit_scale / 100.0
        switches = {name: getattr(self, name) for name in ("raw", "feature", "soft")}
        return Matching(self.n, self.m, self.temperature / sharpness, sharpness, **switches)


@dataclass(frozen=True)
class Scores(Stage):
    """Scores of all methods over one set of embeddings."""

    config: ScoresConfig
    methods: Mapping[str, Method]
    index: Stage
    classes: Classes
    views: Mapping[str, Stage]
    """Embeddings that the methods read."""
    drawn: Mapping[str, Stage]
    """The draws of views that are embedded in every way they can come out."""
    texts: Mapping[str, Stage]
    image_block: int
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "scores"
    version: ClassVar[int] = 3

    def check(self) -> None:
        """An expectation needs every outcome."""
        if self.config.expectation and "feature" in self.views and not self.drawn:
            raise ConfigError(
                "scores.expectation: needs every window that can be drawn; "
                "set windows.shape=square and windows.encode=all"
            )

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images."""
        return row_units(store.rows(self.index), self.image_block)

    def footprint(self, store: Store) -> Footprint:
        """Vectors of all views as stored and in float32, then logits."""
        rows, present = self.image_block, sum(self.classes.present)
        arrays = [store.open(stage).array("embeddings") for stage in self.views.values()]
        vectors = sum(array.shape[1] * array.shape[2] for array in arrays)
        logits = 4 * rows * len(self.methods) * present
        return Footprint(6 * rows * vectors + 2 * logits, logits)

    def worker(self, store: Store) -> Worker:
        """Load the text vectors, open the embeddings."""
        import torch

        from pipeline.models.device import device_of

        present = torch.tensor(self.classes.present)
        texts = {
            name: _descriptions(store, stage, len(present)) for name, stage in self.texts.items()
        }
        if self.config.classes == "present":
            texts = {name: found.of(present) for name, found in texts.items()}
        counts = views_read(self.methods.values(), self.config.matching)
        views = {name: self._reader(store, name, count) for name, count in counts.items()}
        images = store.open(self.index).table("images")
        device = device_of(self.runtime)
        return ScoresWorker(
            self.config, self.methods, self.image_block, images, self.classes, texts, views, device
        )

    def _reader(self, store: Store, name: str, count: int) -> ViewReader:
        array = store.open(self.views[name]).array("embeddings")
        if name not in self.drawn:
            return ViewReader(name, array, count)
        draws = store.open(self.drawn[name])
        if self.config.expectation:
            return ExpectedReader(name, array, self.config.n, _odds(draws, array.shape[0]))
        return DrawnReader(name, array, count, _outcomes(draws, array.shape[0], count))


def _descriptions(store: Store, stage: Stage, classes: int) -> Descriptions:
    import torch

    from pipeline.kernels.matching import Descriptions

    artifact = store.open(stage)
    table, vectors = artifact.table("texts"), np.asarray(artifact.array("embeddings")[:])
    # The same words are the same vector, wherever they stood in a batch.
    vectors = vectors[table.groupby("text")["text_id"].transform("first").to_numpy()]
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    return Descriptions.from_rows(torch.from_numpy(vectors), labels, classes)


def _first_alike(texts: list[Descriptions]) -> list[int]:
    """For each class the first one that has the same descriptions in all of the text sets."""
    seen: dict[tuple[bytes, ...], int] = {}
    classes = range(len(texts[0].present))
    return [
        seen.setdefault(tuple(each.vectors[c].numpy().tobytes() for each in texts), c)
        for c in classes
    ]


def _outcomes(draws: Artifact, images: int, count: int) -> np.ndarray:
    """Which outcome each crop is: (images, count)."""
    table = draws.table("crops", columns=["image", "crop", "outcome"])
    table = table[table["crop"] < count].sort_values(["image", "crop"])
    return np.asarray(table["outcome"].to_numpy().reshape(images, count))


def _odds(draws: Artifact, images: int) -> np.ndarray:
    """Probability of each patch by rank: (images, patches)."""
    table = draws.table("odds", columns=["image", "rank", "probability"])
    table = table.sort_values(["image", "rank"])
    return np.asarray(table["probability"].to_numpy().reshape(images, -1))


@dataclass(frozen=True)
class ViewReader:
    """Reads a view as it is stored: the first `count` of each image."""

    name: str
    array: Any
    count: int

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """float16 (images, count, dim), and weights (images, count) if any."""
        vectors = np.asarray(self.array[rows, : self.count])
        if vectors.shape[1] != self.count:
            raise AbsError(f"embeddings-{self.name} has {vectors.shape[1]} views, not {self.count}")
        return vectors, None


@dataclass(frozen=True)
class DrawnReader(ViewReader):
    """Picks each crop from all windows that it could have been."""

    outcomes: np.ndarray

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """float16 (images, count, dim)."""
        vectors = np.asarray(self.array[rows])
        return np.take_along_axis(vectors, self.outcomes[rows][..., None], axis=1), None


@dataclass(frozen=True)
class ExpectedReader(ViewReader):
    """All windows, each as often as `count` draws have it in expectation."""

    odds: np.ndarray

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """float16 (images, windows, dim) and float64 weights (images, windows)."""
        vectors, odds = np.asarray(self.array[rows]), self.odds[rows]
        sizes = vectors.shape[1] // odds.shape[1]
        return vectors, np.repeat(odds / sizes, sizes, axis=1) * self.count


@dataclass
class ScoresWorker(Worker):
    """Scores blocks of images."""

    config: ScoresConfig
    methods: Mapping[str, Method]
    image_block: int
    images: Any
    classes: Classes
    texts: dict[str, Descriptions]
    views: dict[str, ViewReader]
    device: torch.device

    def __post_init__(self) -> None:
        """Make a scorer of each method."""
        self.present = np.array(self.classes.present)
        self._scorers = {name: self._scorer(method) for name, method in self.methods.items()}

    def _scorer(self, method: Method) -> Scorer:
        """Scores of all classes; those of the same texts have the same score, so that they tie."""
        matching, texts = self.config.matching, [self.texts[name] for name in method.texts]
        read = [self.views[name] for name in method.views(matching)]

        def block(rows: slice) -> Views:
            return self._views({reader.name: reader.read(rows) for reader in read})

        told = {name: self.texts[name].to(self.device) for name in method.texts}
        given = Given(told, matching, len(self.images), block)
        scorer, first = method.scorer(given), _first_alike(texts)
        return lambda rows, views: scorer(rows, views)[:, first]

    def facts(self) -> dict[str, Any]:
        """Where the products are made."""
        from pipeline.models.device import name_of

        return {"device": name_of(self.device)}

    def arrays(self) -> list[ArraySpec]:
        """`logits` (image, method, class)."""
        labels = np.flatnonzero(self.present).tolist()
        each = (len(self.methods), len(labels))
        dims = ("image", "method", "class")
        shape, chunks = (len(self.images), *each), (self.image_block, *each)
        names = {"methods": list(self.methods), "labels": labels}
        return [ArraySpec("logits", dims, shape, chunks, "float32", names)]

    def read(self, unit: Unit) -> dict[str, Any]:
        """The unit's views as stored, with their weights."""
        return {name: reader.read(unit.rows) for name, reader in self.views.items()}

    def compute(self, unit: Unit, inputs: dict[str, Any]) -> dict[str, Any]:
        """Logits and what they say of each image."""
        import pandas as pd
        import torch

        views = self._views(inputs)
        with torch.inference_mode():
            logits = {
                name: self._of_present(scorer(unit.rows, views)).float().cpu()
                for name, scorer in self._scorers.items()
            }
        images = self.images.iloc[unit.rows]
        tables = [self._judged(name, of_method, images) for name, of_method in logits.items()]
        found = {
            "scores": pd.concat(tables, ignore_index=True),
            "logits": np.stack([of_method.numpy() for of_method in logits.values()], axis=1),
        }
        return found | ({"classes": self._table()} if unit.rows.start == 0 else {})

    def _views(self, stored: dict[str, tuple[np.ndarray, np.ndarray | None]]) -> Views:
        """float32, on the device."""
        import torch

        def moved(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(self.device).float()

        return {
            name: View(moved(vectors), None if weights is None else moved(weights))
            for name, (vectors, weights) in stored.items()
        }

    def _judged(self, name: str, logits: Tensor, images: Any) -> Any:
        chances = self.methods[name].probabilities(logits.double(), self.config.matching)
        return judge(name, logits.numpy(), chances.numpy(), images, np.flatnonzero(self.present))

    def _table(self) -> Any:
        import pandas as pd

        names, present = self.classes.names, self.classes.present
        return pd.DataFrame({"label": range(len(names)), "name": names, "present": present})

    def _of_present(self, scores: Any) -> Any:
        return scores[:, self.present] if self.config.classes == "all" else scores


def judge(
    method: str, logits: np.ndarray, chances: np.ndarray, images: Any, classes: np.ndarray
) -> Any:
    """A row per image: prediction, rank of the label (1 is best), top-5, margin and confidence.

    `classes` are the labels that the columns of `logits`, and of the probabilities `chances`, stand
    for. Among equal scores the class that comes first ranks higher. The margin is the label's score
    less the best other one; the confidence is the probability of the prediction.
    """
    import pandas as pd

    if not np.isfinite(logits).all():
        raise AbsError(f"{method}: scores that are no numbers; are temperature and weights right?")
    labels = images["label"].to_numpy()
    columns = np.searchsorted(classes, labels)
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = (order == columns[:, None]).argmax(axis=1) + 1
    own = np.take_along_axis(logits, columns[:, None], axis=1)[:, 0]
    rival = np.where(rank == 1, order[:, min(1, logits.shape[1] - 1)], order[:, 0])
    margin = own - np.take_along_axis(logits, rival[:, None], axis=1)[:, 0]
    table = {
        "image_id": images["image_id"].to_numpy(),
        "label": labels,
        "method": method,
        "pred": classes[order[:, 0]],
        "correct": rank == 1,
        "rank": rank,
        "top5": list(classes[order[:, :5]]),
        "margin": margin.astype(np.float32),
        "confidence": np.take_along_axis(chances, order[:, :1], axis=1)[:, 0].astype(np.float32),
    }
    return pd.DataFrame(table)


command = stage_command("scores")
