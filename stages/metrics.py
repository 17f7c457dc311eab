"""metrics: compute the accuracy of each method, with the settings that its scores depend on.

Reads the scores. There is one unit: all images.

Writes three tables:

    metrics.parquet     a row per method: images, classes, top1 with two 95 % intervals
                        (top1_ci_*, top1_bootstrap_ci_*), top5, mean_per_class_recall, ece
                        (calibration error), and every setting and file digest behind the scores;
                        crops_used (mean of an image) if images stop when they have settled
    per_class.parquet   a row per method and class: method, label, images, top1, name, present
    confusion.parquet   method, label, pred, images: the images of a class with that prediction

Shares are float64 from 0 to 1. Tables of results print Wilson's interval: it also holds near 0 and
100 %, where resampling finds no spread. The bootstrap's is for comparison with other work. The
stage has no settings of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.core.section import flatten
from pipeline.kernels.statistics import bootstrap, calibration_error, wilson
from pipeline.options import stage_command
from pipeline.stage import Stage, Worker
from pipeline.store.units import WHOLE, Unit, Units

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.store.store import Store


@dataclass(frozen=True)
class Metrics(Stage):
    """Accuracy over all images of a dataset."""

    scores: Stage
    index: Stage
    dataset: str

    kind: ClassVar[str] = "metrics"
    version: ClassVar[int] = 4
    counts = ""

    def units(self, store: Store) -> Units:
        """Return the only unit; the stage is not divided."""
        return WHOLE

    def worker(self, store: Store) -> Worker:
        """Open the scores."""
        scores = store.open(self.scores)
        pieces, classes = partial(scores.pieces, "scores"), scores.table("classes")
        return MetricsWorker(pieces, classes, self.dataset, dict(parameters(self.scores)))


def parameters(stage: Stage) -> Iterator[tuple[str, Any]]:
    """Yield `stage.field` and value of all settings, file digests and keys behind a stage."""
    identity = stage.identity()
    own = identity["config"] | identity["outside"]
    rule = identity["settled"]["config"] if "settled" in identity else {}
    for name, part in (own | {f"settled.{n}": rule[n] for n in rule if n == "rule"}).items():
        prefix = stage.name if name == "config" else f"{stage.name}.{name}"
        yield from flatten(part, prefix)
    yield f"{stage.name}.key", stage.key
    for upstream in stage.upstream:
        yield from parameters(upstream)


@dataclass
class MetricsWorker(Worker):
    """Worker that summarises the scores of each method.

    Holds a function that yields the table `scores` of the stage `scores` in pieces, its table
    `classes`, the dataset's name, and settings by dotted name.
    """

    scores: Callable[[], Iterable[pd.DataFrame]]
    classes: pd.DataFrame
    dataset: str
    parameters: dict[str, Any]

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Return the three tables."""
        import pandas as pd

        counts, found = [], dict[str, _Results]()
        for piece in self.scores():
            counts.append(_counted(piece.assign(images=1), ["method", "label", "pred"]))
            for name, own in piece.groupby("method", sort=False):
                found.setdefault(str(name), _Results()).add(own)
        every = _counted(pd.concat(counts, ignore_index=True), ["method", "label", "pred"])
        per_class = _counted(every, ["method", "label"])
        per_class["top1"] = per_class.pop("correct") / per_class["images"]
        settings = {n: repr(v) if isinstance(v, list) else v for n, v in self.parameters.items()}
        rows = [
            {**self._row(name, results, per_class[per_class["method"] == name]), **settings}
            for name, results in found.items()
        ]
        return {
            "metrics": pd.DataFrame(rows),
            "per_class": per_class.merge(self.classes, on="label"),
            "confusion": every.drop(columns="correct"),
        }

    def _row(self, method: str, results: _Results, per_class: pd.DataFrame) -> dict[str, Any]:
        """Return the row of `metrics` for a method, without settings."""
        confidence, right = results.column("confidence"), results.column("correct")
        correct, images = int(right.sum()), len(right)
        low, high = wilson(correct, images)
        bootstrap_low, bootstrap_high = bootstrap(correct, images)
        crops = results.column("crops_used")
        settled = {} if crops is None else {"crops_used": crops.mean()}
        return {
            "dataset": self.dataset,
            "method": method,
            "images": images,
            "classes": int(self.classes["present"].sum()),
            "top1": correct / images,
            "top1_ci_low": low,
            "top1_ci_high": high,
            "top1_bootstrap_ci_low": bootstrap_low,
            "top1_bootstrap_ci_high": bootstrap_high,
            "top5": results.top5 / images,
            "mean_per_class_recall": per_class.sort_values("label")["top1"].mean(),
            "ece": calibration_error(confidence, right),
            **settled,
        }


class _Results:
    """Results of a method, image by image: the columns of the table that are summarised."""

    def __init__(self) -> None:
        self.top5 = 0
        """Images whose class is among the first five."""
        self._columns: dict[str, list[Any]] = {}

    def add(self, rows: pd.DataFrame) -> None:
        """Add the rows of further images."""
        self.top5 += int((rows["rank"] <= 5).sum())
        for name in {"correct", "confidence", "crops_used"} & set(rows):
            self._columns.setdefault(name, []).append(rows[name].to_numpy())

    def column(self, name: str) -> Any:
        """Return a column of all images in order; None if there is none."""
        import numpy as np

        return np.concatenate(self._columns[name]) if name in self._columns else None


def _counted(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sum `images` and `correct` by some columns, in the order of appearance."""
    return rows.groupby(by, sort=False, as_index=False)[["images", "correct"]].sum()


command = stage_command(
    "metrics", "Compute accuracy with intervals, calibration error and confusion matrix.", __doc__
)
