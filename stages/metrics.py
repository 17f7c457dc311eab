"""metrics: accuracy of each method, with the run's parameters beside it.

Reads the scores. Writes `metrics.parquet` (a row per method: top-1 with two 95 % intervals, top-5,
mean per class, calibration error, and every setting that the scores depend on as a column),
`per_class.parquet` and `confusion.parquet` (label, pred, images).

Wilson's interval is the one that tables print: it holds near 0 and 100 % too, where resampling
finds no spread. The bootstrap's is there because other work reports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.config import leaves
from pipeline.options import stage_command
from pipeline.stage import WHOLE, Stage, Unit, Worker
from pipeline.statistics import bootstrap, calibration_error, wilson

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.store import Store


@dataclass(frozen=True)
class Metrics(Stage):
    """Accuracy over all images of a dataset."""

    scores: Stage
    index: Stage
    dataset: str

    kind: ClassVar[str] = "metrics"
    version: ClassVar[int] = 2
    counts = ""

    def units(self, store: Store) -> list[Unit]:
        """Not divided."""
        return [WHOLE]

    def worker(self, store: Store) -> Worker:
        """Open the scores."""
        scores = store.open(self.scores).table("scores")
        names = store.open(self.scores).table("classes")
        return MetricsWorker(scores, names, self.dataset, dict(parameters(self.scores)))


def parameters(stage: Stage) -> Iterator[tuple[str, Any]]:
    """`stage.field` and value of all settings and file digests behind a stage's output."""
    identity = stage.identity()
    for name, part in (identity["config"] | identity["outside"]).items():
        prefix = stage.name if name == "config" else f"{stage.name}.{name}"
        yield from leaves(part, prefix)
    yield f"{stage.name}.key", stage.key
    for upstream in stage.upstream:
        yield from parameters(upstream)


@dataclass
class MetricsWorker(Worker):
    """Counts."""

    scores: pd.DataFrame
    classes: pd.DataFrame
    dataset: str
    parameters: dict[str, Any]

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """The three tables."""
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
        right = int(rows["correct"].sum())
        low, high = wilson(right, len(rows))
        bootstrap_low, bootstrap_high = bootstrap(right, len(rows))
        return {
            "dataset": self.dataset,
            "method": method,
            "images": len(rows),
            "classes": int(self.classes["present"].sum()),
            "top1": rows["correct"].mean(),
            "top1_low": low,
            "top1_high": high,
            "top1_bootstrap_low": bootstrap_low,
            "top1_bootstrap_high": bootstrap_high,
            "top5": (rows["rank"] <= 5).mean(),
            "mean_per_class": rows.groupby("label")["correct"].mean().mean(),
            "ece": calibration_error(rows["confidence"].to_numpy(), rows["correct"].to_numpy()),
        }


command = stage_command("metrics")
