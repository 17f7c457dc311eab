"""Stored sweeps as lines: top-1 over one setting, with sigma over the seeds."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError, one_line
from pipeline.report.stored import StoredRun
from pipeline.studies.stored import stored_sweeps

if TYPE_CHECKING:
    import pandas as pd

FIGURES = ("top1", "top5", "mean_per_class_recall", "ece", "sigma", "seeds")
"""Columns that are results."""
KNOWN = ("grid", "row", "dataset", "method", "images", "classes")
"""Columns of every sweep that are neither settings nor results."""


def sweep_lines(run: StoredRun) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the sweeps of the run's dataset: their lines, and a remark for each unreadable one."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    remarks = []
    for sweep in stored_sweeps(run.store):
        try:
            table = pd.read_parquet(io.BytesIO(sweep.path.read_bytes()))
            found += [{**grid, "settings": sweep.selection} for grid in _grids(sweep.name, table)]
        except (OSError, ValueError, KeyError, AbsError) as error:
            remarks.append(f"sweep {sweep.name} is not shown: {one_line(error)}")
    return found, remarks


def _grids(name: str, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Divide a sweep into its grids, and each into lines over every setting that varies."""
    return [
        {"sweep": name, "over": over, "lines": _lines(rows, over, varied)}
        for _, rows in table.groupby("grid", sort=True)
        if (varied := _varied(rows))
        for over in varied
        if rows[over].nunique() > 1
    ]


def _varied(rows: pd.DataFrame) -> list[str]:
    """Return the settings that differ within a grid."""
    names = [name for name in rows.columns if name not in (*FIGURES, *KNOWN)]
    return [name for name in names if rows[name].nunique(dropna=False) > 1]


def _lines(rows: pd.DataFrame, over: str, varied: list[str]) -> list[dict[str, Any]]:
    """Return a line for each method and choice of the other settings."""
    others = [name for name in varied if name != over]
    lines = []
    for values, group in rows.groupby(["method", *others], sort=False, dropna=False):
        ordered = group.sort_values(over)
        fixed = [f"{name}={value}" for name, value in zip(others, values[1:], strict=True)]
        lines.append(
            {
                "method": values[0],
                "with": ", ".join(fixed),
                "x": ordered[over].tolist(),
                "top1": [round(float(v), 6) for v in ordered["top1"]],
                "sigma": [None if v != v else round(float(v), 6) for v in ordered["sigma"]],
                "seeds": int(ordered["seeds"].max()),
            }
        )
    return _merged(lines)


def _merged(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line, without the other settings, of a method that does not depend on them."""
    found = []
    for method in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == method]
        equal = all((line["x"], line["top1"]) == (own[0]["x"], own[0]["top1"]) for line in own)
        found += [{**own[0], "with": ""}] if equal and len(own) > 1 else own
    return found
