"""Stored sweeps as lines: top-1 over one setting, with sigma over the seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError, one_line
from pipeline.core.layers import plain
from pipeline.report.stored import StoredRun
from pipeline.studies.stored import SETTLED, settings_in, stored_sweeps

if TYPE_CHECKING:
    import pandas as pd


def sweep_lines(run: StoredRun) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the sweeps of the run's dataset: their lines, and a remark for each unreadable one."""
    found: list[dict[str, Any]] = []
    remarks = []
    for sweep in stored_sweeps(run.store):
        try:
            about = {"sweep": sweep.name, "settings": sweep.selection}
            found += [about | lines for lines in _grids(sweep.table())]
        except (OSError, ValueError, KeyError, AbsError) as error:
            remarks.append(f"sweep {sweep.name} is not shown: {one_line(error)}")
    return found, remarks


def _grids(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Divide a sweep into its grids, and each into lines over every setting that varies."""
    found = []
    for _, rows in table.groupby("grid", sort=True):
        varied = [name for name in settings_in(rows) if rows[name].nunique(dropna=False) > 1]
        found += [{"over": over, **_lines(rows, over, varied)} for over in varied]
    return found


def _lines(rows: pd.DataFrame, over: str, varied: list[str]) -> dict[str, Any]:
    """Return a line for each method and choice of the other settings, and how its axis is read."""
    others = [name for name in varied if name != over]
    numbers = _are_numbers(rows[over])
    lines = []
    for values, group in rows.groupby(["method", *others], sort=False, dropna=False):
        ordered = group.sort_values(over) if numbers else group
        fixed = [f"{name}={_written(v)}" for name, v in zip(others, values[1:], strict=True)]
        crops = ordered[SETTLED] if SETTLED in ordered else ordered["top1"] * float("nan")
        lines.append(
            {
                "method": values[0],
                "with": ", ".join(fixed),
                "x": ordered[over].tolist() if numbers else list(map(_written, ordered[over])),
                "top1": _rounded(ordered["top1"]),
                "sigma": _rounded(ordered["sigma"]),
                "crops": _rounded(crops),
                "seeds": int(ordered["seeds"].max()),
            }
        )
    return {"axis": _axis(rows[over], numbers), "lines": _merged(lines)}


def _are_numbers(values: pd.Series[Any]) -> bool:
    """Return whether a setting has a number for a value everywhere; true and false are none."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(values) and not is_bool_dtype(values) and values.notna().all())


def _axis(values: pd.Series[Any], numbers: bool) -> str:
    """Return `category`, `linear`, or `log` for positive numbers of different size."""
    if not numbers:
        return "category"
    wide = values.min() > 0 and values.max() >= 10 * values.min()
    return "log" if wide else "linear"


def _written(value: Any) -> str:
    """Write a value of a table as YAML would be given it."""
    return plain(None if value != value else value.item() if hasattr(value, "item") else value)


def _rounded(values: pd.Series[Any]) -> list[float | None]:
    return [None if value != value else round(float(value), 6) for value in values]


def _merged(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line, without the other settings, of a method that does not depend on them."""
    found = []
    for method in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == method]
        equal = all((line["x"], line["top1"]) == (own[0]["x"], own[0]["top1"]) for line in own)
        found += [{**own[0], "with": ""}] if equal and len(own) > 1 else own
    return found
