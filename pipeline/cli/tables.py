"""What a person sees: the state of the store, the plan of a run, the table of results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.methods.registry import METHODS
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.store.store import Store


def _known(value: int | None, shown: Callable[[int], str]) -> str:
    return "?" if value is None else shown(value) if value else ""


def results(store: Store, stage: Stage) -> list[dict[str, Any]]:
    """Rows of the table of results, if `stage` is the metrics."""
    if stage.kind != "metrics":
        return []
    table = store.open(stage).table("metrics")
    columns = ["method", "top1", "top1_ci_low", "top1_ci_high", "top5", "images", "classes"]
    rows = [dict(zip(columns, row, strict=True)) for row in table[columns].to_numpy().tolist()]
    for row in rows:
        off = [f"-{part}" for part in ("raw", "feature", "soft") if not table[f"scores.{part}"][0]]
        expected = table["scores.expectation"][0] and table["scores.feature"][0]
        on = ["+expectation"] if expected else []
        row["switched"] = [*off, *on] if row["method"] == "abs" else []
    return rows


def print_results(rows: list[dict[str, Any]], store: Store) -> None:
    """Method, top-1, interval and number of images."""
    first = rows[0]
    title = f"{store.dataset}: {first['images']:,} images, {first['classes']} classes"
    table = Table("method", title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("top-1 %", "95 % interval", "top-5 %", "images"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = 100 * row["top1_ci_low"], 100 * row["top1_ci_high"]
        top1, top5 = 100 * row["top1"], 100 * row["top5"]
        interval = f"{low:.2f} to {high:.2f}"
        name = " ".join([row["method"], *row["switched"]])
        table.add_row(name, f"{top1:.2f}", interval, f"{top5:.2f}", f"{row['images']:,}")
    _print(table)


def print_skipped(store: Store, index: Stage) -> None:
    """How many images cannot be read, and where they are listed."""
    artifact = store.open(index)
    if skipped := len(artifact.table("skipped")):
        print(f"{skipped:,} images skipped; see {artifact.path / 'skipped.parquet'}")


def print_left_out(settings: Settings) -> None:
    """Methods that are not in the table because they have no texts."""
    if settings.scores.methods is not None:
        return
    for name in METHODS:
        if lacking := settings.lacking(name):
            print(f"Not scored: {name} ({'; '.join(lacking)}).")


def _print(table: Table) -> None:
    """On standard output; not cut to a screen's width where there is none."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def size(count: int) -> str:
    """`5.2 GB`"""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def age(seconds: int) -> str:
    """`3 min`"""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
