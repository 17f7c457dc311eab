"""Prints what studies find: sweeps, tables beside the paper's, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.cli.tables import _known, _print, size
from pipeline.studies.sharing import told


def print_sweep(planned: Mapping[str, Any]) -> None:
    """What the runs of a sweep share, and what is to do."""
    table = Table("stage", box=None, pad_edge=False)
    for name in ("artifacts", "there", "units to do", "crops to embed", "writes"):
        table.add_column(name, justify="right")
    for row in planned["stages"]:
        crops = _known(row["crops"], "{:,}".format)
        if row["crops"] is None:
            crops = _known(row["crops_at_most"], "<= {:,}".format)
        cells = [str(row["artifacts"]), str(row["there"]), _known(row["units"], str), crops]
        table.add_row(row["stage"], *cells, _known(row["writes"], size))
    print(f"{planned['experiment']}: {planned['runs']} runs")
    _print(table)
    print(told(*(planned[f"crops_{name}"] for name in ("asked", "to_embed", "at_most"))))


def print_table(table: Any, path: Any) -> None:
    """Rows of a sweep: what varies, then the figures in percent."""
    if table.empty:
        return
    figures = ["top1", "sigma", "top5", "mean_per_class_recall", "ece"]
    fixed = ["dataset", "images", "classes", "row", "grid", *figures]
    varied = [n for n in table if n not in fixed and (n == "method" or table[n].nunique() > 1)]
    shown = Table(*varied, box=None, pad_edge=False)
    for name in figures:
        shown.add_column(name, justify="right")
    for _, row in table.iterrows():
        values = ["" if row[name] != row[name] else str(row[name]) for name in varied]
        shown.add_row(*values, *(_percent(row[name]) for name in figures))
    _print(shown)
    print(path)


def print_beside(found: Any, style: str) -> None:
    """Ours and the paper's, in percent: plain, or as Markdown, LaTeX or CSV."""
    if style == "csv":
        print(found.to_csv(index=False), end="")
        return
    shown = [column for column in found if not found[column].isna().all() or column == "ours"]
    rows = [[_cell(row[column]) for column in shown] for _, row in found.iterrows()]
    if style == "plain":
        table = Table(*shown, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(escape, row))
        _print(table)
    elif style == "markdown":
        rule = ["---"] * len(shown)
        print("\n".join(f"| {' | '.join(row)} |" for row in [shown, rule, *rows]))
    else:
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in [shown, *rows]]
        print("\\begin{tabular}{" + "l" * len(shown) + "}")
        print("\n".join([lines[0], r"\hline", *lines[1:], r"\end{tabular}"]))


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _latex(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.2f}"


def print_failed(failed: list[dict[str, str]]) -> None:
    """The settings of a sweep that have no result."""
    for each in failed:
        print(f"FAILED: {each['setting']}: {each['why']}")


def print_check(found: Mapping[str, Any]) -> None:
    """Ours, theirs, whether that is within its sigma, and what can explain a gap."""
    sigma = "" if found["sigma"] is None else f" (sigma {found['sigma']:.2f})"
    told = "within it" if found["within"] else "NOT within it"
    print(f"{found['dataset']}, {found['backbone']}: ABS {found['ours']:.2f}")
    print(f"paper: {found['paper']:.2f}{sigma}, {found['ours'] - found['paper']:+.2f}: {told}")
    for what, effect in found["reasons"]:
        print(f"  {what} ({effect})")


def print_comparison(found: Mapping[str, Any], a: str, b: str) -> None:
    """Counts, the difference with its interval, and McNemar's p."""
    images, both, only_a, only_b = (found[n] for n in ("images", "both", "only_a", "only_b"))
    table = Table("", f"{b} right", f"{b} wrong", box=None, pad_edge=False)
    table.add_row(f"{a} right", f"{both:,}", f"{only_a:,}")
    table.add_row(f"{a} wrong", f"{only_b:,}", f"{images - both - only_a - only_b:,}")
    _print(table)
    low, high = 100 * found["low"], 100 * found["high"]
    print(f"{a} less {b}: {100 * found['difference']:+.2f} points ({low:+.2f} to {high:+.2f})")
    print(f"McNemar, exact: p = {found['p']:.3g}")
