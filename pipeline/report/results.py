"""Results of a run as plain data: accuracies, paired tests, classes, calibration, confusion."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.kernels.statistics import paired, wilson
from pipeline.methods.base import VIEW_NAMES
from pipeline.methods.imported import PREFIX
from pipeline.methods.registry import METHODS
from pipeline.report.settled import COLUMNS as SETTLED_COLUMNS
from pipeline.report.settled import may_settle
from pipeline.report.stored import StoredRun
from pipeline.studies.paper import METHODS as NAMES

if TYPE_CHECKING:
    import pandas as pd

BINS = 15
"""Bins of equal width of a reliability diagram, as many as of the calibration error."""
PAIRS = 40
"""Confused pairs of classes that are listed for each method."""
CONFUSED = 16
"""Classes in the matrix of those most confused."""
COLUMNS = ["label", "method", "pred", "correct", "rank", "margin", "confidence"]
"""Columns of the scores that reports read."""


def read_scores(run: StoredRun) -> dict[str, pd.DataFrame]:
    """Read the scores of each method, a row per image in the order of the index."""
    columns = [*COLUMNS, *SETTLED_COLUMNS] if may_settle(run) else COLUMNS
    table = run.artifact("scores").table("scores", columns=columns)
    groups = table.groupby("method", sort=False)
    return {str(name): rows.reset_index(drop=True) for name, rows in groups}


def title(method: str) -> str:
    """Return the name of a method as it is printed; results of other systems say so."""
    if method.startswith(PREFIX):
        return f"{method.removeprefix(PREFIX)} (imported)"
    return NAMES.get(method, method)


def imports(run: StoredRun, methods: Iterable[str]) -> list[dict[str, str]]:
    """Return the source of each method whose results are imported."""
    remarks = run.artifact("scores").manifest.get("remarks") or []
    said = [(name, line) for name in methods for line in remarks if line.startswith(f"{name}: ")]
    return [
        {"method": name, "source": line.removeprefix(f"{name}: ")}
        for name, line in said
        if name.startswith(PREFIX)
    ]


def default_pair(methods: list[str]) -> tuple[str, str]:
    """Return the method that a report looks at, and the one it is compared with: ABS and CuPL.

    Without ABS: the last method that looks at crops, or the last of all.
    """
    crops = [name for name in methods if name in METHODS and _reads_crops(name)]
    first = "abs" if "abs" in methods else (crops or methods)[-1]
    others = [name for name in methods if name != first] or [first]
    return first, "cupl" if "cupl" in others else others[-1]


def _reads_crops(method: str) -> bool:
    from pipeline.methods.config import ScoresConfig

    views = METHODS[method]().views(ScoresConfig())
    return bool(set(views) - {VIEW_NAMES[0]})


def accuracies(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each method: shares from 0 to 1, with both intervals of top-1."""
    figures = [
        *("top1", "top1_ci_low", "top1_ci_high", "top1_bootstrap_ci_low"),
        *("top1_bootstrap_ci_high", "top5", "mean_per_class_recall", "ece"),
    ]
    return [
        {"method": row["method"], **{name: float(row[name]) for name in figures}}
        for row in metrics.to_dict("records")
    ]


def paired_tests(scores: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Compare every two methods image by image: difference, its interval, McNemar's p-value."""
    rows = []
    for a, b in combinations(scores, 2):
        found = paired(scores[a]["correct"].to_numpy(), scores[b]["correct"].to_numpy())
        values = {name: getattr(found, name) for name in ("only_a", "only_b", "low", "high", "p")}
        rows.append({"a": a, "b": b, "difference": found.difference, **values})
    return rows


def per_class(table: pd.DataFrame, methods: list[str]) -> dict[str, Any]:
    """Return name and number of images of each class, and the top-1 of each method."""
    images = table.drop_duplicates("label").sort_values("label")
    wide = table.pivot(index="label", columns="method", values="top1").loc[images["label"]]
    return {
        "labels": images["label"].tolist(),
        "names": images["name"].tolist(),
        "images": images["images"].tolist(),
        "top1": {name: wide[name].round(5).tolist() for name in methods},
    }


def calibration(scores: dict[str, pd.DataFrame]) -> dict[str, list[dict[str, float]]]:
    """Return the bins of each method that hold images: confidence, accuracy, interval, images."""
    return {name: _bins(rows) for name, rows in scores.items()}


def _bins(rows: pd.DataFrame) -> list[dict[str, float]]:
    confidence = rows["confidence"].to_numpy(dtype=float)
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        right, count = int(rows["correct"].to_numpy()[inside].sum()), int(inside.sum())
        low, high = wilson(right, count)
        mean = float(confidence[inside].mean())
        found.append(
            {"confidence": mean, "top1": right / count, "low": low, "high": high, "images": count}
        )
    return found


def confusions(table: pd.DataFrame, names: list[str], methods: list[str]) -> dict[str, Any]:
    """Return, for each method, the pairs of classes most confused and a matrix of those classes."""
    return {name: _confusion(table[table["method"] == name], names) for name in methods}


def _confusion(rows: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    wrong = rows[rows["label"] != rows["pred"]].sort_values(
        ["images", "label", "pred"], ascending=[False, True, True]
    )
    totals = rows.groupby("label")["images"].sum()
    pairs = [
        {"label": int(label), "pred": int(pred), "images": int(n), "of": int(totals[label])}
        for label, pred, n in wrong[["label", "pred", "images"]].head(PAIRS).to_numpy()
    ]
    chosen = sorted(_first([label for p in pairs for label in (p["label"], p["pred"])], CONFUSED))
    inside = rows[rows["label"].isin(chosen) & rows["pred"].isin(chosen)]
    counts = inside.pivot(index="label", columns="pred", values="images")
    matrix = counts.reindex(index=chosen, columns=chosen).fillna(0).astype(int)
    return {
        "pairs": pairs,
        "labels": chosen,
        "matrix": matrix.to_numpy().tolist(),
        "of": [int(totals.get(label, 0)) for label in chosen],
    }


def _first(values: list[int], count: int) -> list[int]:
    """Return the first distinct values."""
    return list(dict.fromkeys(values))[:count]
