"""Images that settled early: crops that they took, and what was promised of their decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.kernels.statistics import wilson
from pipeline.report.stored import StoredRun
from pipeline.studies.stored import SETTLED

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (SETTLED, "bound", "round")
"""Columns of the scores of a run whose images may settle early."""


def may_settle(run: StoredRun) -> bool:
    """Return whether images of a run may stop before all of their crops are embedded."""
    return any("settled" in (run.artifact(stage).identity or {}) for stage in run.stages)


def settled(run: StoredRun, scores: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return the figures of each method whose images settle, and a row for each number of crops.

    Args:
        run: The run.
        scores: Scores by method, a row per image.
    """
    rule = run.settings.scores
    found = {
        n: rows for n, rows in scores.items() if SETTLED in rows and rows[SETTLED].notna().any()
    }
    return [
        {"method": name, "p": rule.settle, "at": rule.settle_at, **_figures(rows, rule.n)}
        for name, rows in found.items()
    ]


def _figures(rows: pd.DataFrame, count: int) -> dict[str, Any]:
    """Sum up the crops of all images, and the bounds of those that have fewer than `count`."""
    used, early = rows[SETTLED], rows[rows[SETTLED] < count]
    return {
        "n": count,
        "mean": float(used.mean()),
        "saved": 1 - float(used.mean()) / count,
        "images": len(rows),
        "all": int((used == count).sum()),
        "doubt": float(early["bound"].sum()),
        "rows": [_row(int(crops), rows[used == crops]) for crops in sorted(set(used.tolist()))],
    }


def _row(crops: int, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the images that took a number of crops: how many, and how many are right."""
    right, count = int(rows["correct"].sum()), len(rows)
    low, high = wilson(right, count)
    return {"crops": crops, "images": count, "top1": right / count, "low": low, "high": high}


def settled_at(row: Any, count: int) -> dict[str, Any] | None:
    """Return after how many of its crops an image stopped, and with which bound; None if never.

    Args:
        row: Scores of the image by a method.
        count: Crops of an image that does not settle.
    """
    used = row.get(SETTLED)
    if used is None or used != used:
        return None
    return {"used": int(used), "of": count, "bound": float(f"{row['bound']:.2g}")}
