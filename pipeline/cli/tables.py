"""Table of results of a run, and helpers for all tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.core.words import counted
from pipeline.methods.registry import defaults
from pipeline.run import Run
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.store.store import Store
from stages.index import skipped_files
from stages.scores import Scores


def cell(value: int | None, formatted: Callable[[int], str]) -> str:
    """Format a number: `?` if it is unknown, empty if it is 0."""
    return "?" if value is None else formatted(value) if value else ""


def results(store: Store, stage: Stage) -> list[dict[str, Any]]:
    """Return the rows of the table of results; none unless `stage` is the metrics stage."""
    if stage.kind != "metrics":
        return []
    table = store.open(stage).table("metrics")
    columns = ["method", "top1", "top1_ci_low", "top1_ci_high", "top5", "images", "classes"]
    rows = [dict(zip(columns, row, strict=True)) for row in table[columns].to_numpy().tolist()]
    (scores,) = (each for each in stage.upstream if isinstance(each, Scores))
    for row in rows:
        off = [f"-{part}" for part in ("raw", "feature", "soft") if not table[f"scores.{part}"][0]]
        expected = table["scores.expectation"][0] and table["scores.feature"][0]
        on = ["+expectation"] if expected else []
        row["switched"] = [*off, *on] if row["method"] == "abs" else []
        row["remark"] = scores.remark_of.get(row["method"], "")
    return rows


def print_results(rows: list[dict[str, Any]], run: Run) -> None:
    """Print method, top-1 with its interval, top-5 and the number of images, then remarks.

    The title names the dataset, the profile, and the settings that depart from it.
    """
    first = rows[0]
    counts = f"{counted(first['images'], 'images')}, {counted(first['classes'], 'classes')}"
    title = f"{run.store.dataset}: {counts}; {run.selection}"
    table = Table("method", title=escape(title), title_justify="left", box=None, pad_edge=False)
    for name in ("top-1 %", "95 % interval", "top-5 %", "images"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = 100 * row["top1_ci_low"], 100 * row["top1_ci_high"]
        top1, top5 = 100 * row["top1"], 100 * row["top5"]
        interval = f"{low:.2f} to {high:.2f}"
        name = " ".join([row["method"], *row["switched"]])
        table.add_row(escape(name), f"{top1:.2f}", interval, f"{top5:.2f}", f"{row['images']:,}")
    print_rich(table)
    for row in rows:
        if row["remark"]:
            print(f"{row['method']}: {row['remark']}")


def print_skipped(store: Store, index: Stage) -> None:
    """Print how many images could not be read, and the file that lists them."""
    artifact = store.open(index)
    if skipped := skipped_files(artifact):
        print(f"{counted(skipped, 'images')} skipped; see {artifact.path / 'skipped.parquet'}")


def print_unscored_methods(settings: Settings) -> None:
    """Print the methods that are not in the table because their texts are missing."""
    if settings.scores.methods is not None:
        return
    for name in defaults():
        if missing := settings.missing_texts(name):
            print(f"Not scored: {name} ({'; '.join(missing)}).")


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table with the names of their values as its head."""
    if not rows:
        print("none")
        return
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    print_rich(table)


def print_rich(table: Table) -> None:
    """Print a table on standard output, at full width if that is not a terminal."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def p_value(p: float) -> str:
    """Format a p-value with three digits, such as `0.0312` or `4.7e-08`."""
    return f"{p:.3g}" if p > 0 else "<1e-300"


def size(count: int) -> str:
    """Format a number of bytes, such as `5.2 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def age(seconds: int) -> str:
    """Format an age, such as `3 min`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
