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

from collections.abc import Iterator
from dataclasses import dataclass
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
        scores = store.open(self.scores).table("scores")
        classes = store.open(self.scores).table("classes")
        return MetricsWorker(scores, classes, self.dataset, dict(parameters(self.scores)))


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

    Holds the tables `scores` and `classes` of the stage `scores`, the dataset's name, and settings
    by dotted name.
    """

    scores: pd.DataFrame
    classes: pd.DataFrame
    dataset: str
    parameters: dict[str, Any]

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Return the three tables."""
        import pandas as pd

        methods = self.scores.groupby("method", sort=False)
        classes = self.scores.groupby(["method", "label"], sort=False, as_index=False)
        per_class = classes.agg(images=("correct", "size"), top1=("correct", "mean"))
        counts = self.scores.value_counts(["method", "label", "pred"], sort=False).reset_index()
        settings = {n: repr(v) if isinstance(v, list) else v for n, v in self.parameters.items()}
        rows = [{**self._row(str(name), group), **settings} for name, group in methods]
        return {
            "metrics": pd.DataFrame(rows),
            "per_class": per_class.merge(self.classes, on="label"),
            "confusion": counts.rename(columns={"count": "images"}),
        }

    def _row(self, method: str, rows: pd.DataFrame) -> dict[str, Any]:
        """Return the row of `metrics` for a method, without settings."""
        correct = int(rows["correct"].sum())
        low, high = wilson(correct, len(rows))
        bootstrap_low, bootstrap_high = bootstrap(correct, len(rows))
        crops = rows.get("crops_used")
        settled = {} if crops is None else {"crops_used": crops.mean()}
        return {
            "dataset": self.dataset,
            "method": method,
            "images": len(rows),
            "classes": int(self.classes["present"].sum()),
            "top1": rows["correct"].mean(),
            "top1_ci_low": low,
            "top1_ci_high": high,
            "top1_bootstrap_ci_low": bootstrap_low,
            "top1_bootstrap_ci_high": bootstrap_high,
            "top5": (rows["rank"] <= 5).mean(),
            "mean_per_class_recall": rows.groupby("label")["correct"].mean().mean(),
            "ece": calibration_error(rows["confidence"].to_numpy(), rows["correct"].to_numpy()),
            **settled,
        }


command = stage_command(
    "metrics", "Compute accuracy with intervals, calibration error and confusion matrix.", __doc__
)
