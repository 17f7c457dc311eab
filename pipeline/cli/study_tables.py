"""Print the results of studies: sweeps, tables beside the paper's, comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline.cli.tables import cell, p_value, print_rich, size
from pipeline.core.layers import plain
from pipeline.core.words import counted
from pipeline.studies.settling import SettlingCheck
from pipeline.studies.sharing import crop_summary
from pipeline.studies.stored import REMARK, SCORING, SETTLED

FIGURES = (
    *("top1", "sigma", "top5", "mean_per_class_recall", "ece"),
    *("difference", "difference_low", "difference_high"),
)
"""Columns of a sweep's table that are shares of 1."""
P = "p"
"""Column of p-values."""


class Format(StrEnum):
    """Output format of a table."""

    plain = "plain"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


FormatOption = Annotated[Format, typer.Option("--format", help="Output format of the table.")]


def print_sweep(planned: Mapping[str, Any]) -> None:
    """Print the artifacts that the runs of a sweep share, and the units left to compute."""
    table = Table("stage", box=None, pad_edge=False)
    for name in ("artifacts", "finished", "units to do", "crops to embed", "writes"):
        table.add_column(name, justify="right")
    for row in planned["stages"]:
        crops = cell(row["crops"], "{:,}".format)
        if row["crops"] is None:
            crops = cell(row["crops_at_most"], "<= {:,}".format)
        cells = [str(row["artifacts"]), str(row["there"]), cell(row["units"], str), crops]
        table.add_row(row["stage"], *cells, cell(row["writes"], size))
    print(f"{planned['experiment']}: {counted(planned['runs'], 'runs')}")
    print_rich(table)
    print(crop_summary(*(planned[f"crops_{name}"] for name in ("asked", "to_embed", "at_most"))))


def print_sweep_table(table: Any, dataset: str, selection: str, style: str) -> None:
    """Print the table of a sweep: settings that vary, then figures in percent, then remarks.

    Dataset, profile and common settings are in the title; in CSV they are columns.
    """
    if style == "csv":
        print(table.assign(settings=selection).to_csv(index=False), end="")
        return
    present = [name for name in FIGURES if name in table]
    fixed = ["dataset", "images", "classes", "row", "grid", REMARK, *FIGURES]
    always = ("method", SETTLED)
    varied = [n for n in table if n not in fixed and (n in always or _differs(table[n]))]
    shown = {name: _settings(table, name) if "." in name else table[name] for name in varied}
    remarks = [REMARK] if REMARK in table and table[REMARK].fillna("").any() else []
    rows = [
        [
            *(_cell(n, shown[n][i]) for n in varied),
            *(_percent(row[name]) for name in present),
            *(_text(row[name]) for name in remarks),
        ]
        for i, (_, row) in enumerate(table.iterrows())
    ]
    images = f"{counted(table['images'].iloc[0], 'images')}, " if len(table) else ""
    columns = [*varied, *present, *remarks]
    _print_styled(columns, rows, style, f"{dataset}: {images}{selection}")


def _differs(column: Any) -> bool:
    return bool(column.nunique(dropna=False) > 1)


def _settings(table: Any, name: str) -> list[str]:
    """Return the values of a setting as given; none where the grid of a row does not vary it."""
    given = table.groupby("grid")[name].transform("count") > 0
    pairs = zip(table[name], given, strict=True)
    return ["" if not by_grid else _given(value) for value, by_grid in pairs]


def _given(value: Any) -> str:
    """Write a setting's value in full; whole numbers that a table holds as floats without .0."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return "null" if value != value else f"{value:.15g}"
    return plain(value)


def print_beside_paper(results: Any, style: str, title: str) -> None:
    """Print our results and the paper's in percent: plain, or as Markdown, LaTeX or CSV."""
    if style == "csv":
        print(results.to_csv(index=False), end="")
        return
    results = results.rename(columns={"ours": "measured"})
    shown = [name for name in results if not results[name].isna().all() or name == "measured"]
    rows = [[_cell(name, row[name]) for name in shown] for _, row in results.iterrows()]
    _print_styled(shown, rows, style, title)


def _print_styled(names: list[str], rows: list[list[str]], style: str, title: str) -> None:
    """Print a title and a table: plain, as Markdown or as LaTeX."""
    if style == "plain":
        print(title)
        table = Table(*names, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(escape, row))
        print_rich(table)
    elif style == "markdown":
        rule = ["---"] * len(names)
        print(f"{title}\n")
        print("\n".join(f"| {' | '.join(row)} |" for row in [names, rule, *rows]))
    else:
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in [names, *rows]]
        print(f"% {title}")
        print("\\begin{tabular}{" + "l" * len(names) + "}")
        print("\n".join([lines[0], r"\hline", *lines[1:], r"\end{tabular}"]))


def rows_of(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a data frame as JSON types; None where a value is missing."""
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows


def _cell(name: str, value: Any) -> str:
    """Write a value of a column: p-values and seconds of scoring may be far below 0.01."""
    if name not in (P, SCORING) or value is None or value != value:
        return _text(value)
    return p_value(value) if name == P else f"{value:.3g}"


def _text(value: Any) -> str:
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
    """Print the settings of a sweep that have no result, and why."""
    for row in failed:
        print(f"FAILED: {row['setting']}: {row['why']}")


def print_check(check: Mapping[str, Any]) -> None:
    """Print our accuracy, the paper's, whether they agree, and possible reasons for a gap."""
    sigma = "" if check["sigma"] is None else f" (sigma {check['sigma']:.2f})"
    verdict = "within tolerance" if check["within"] else "NOT within tolerance"
    print(f"{check['dataset']}, {check['backbone']}: ABS {check['ours']:.2f}")
    print(f"paper: {check['paper']:.2f}{sigma}, {check['ours'] - check['paper']:+.2f}: {verdict}")
    for difference, effect in check["reasons"]:
        print(f"  {difference} ({effect})")


def print_settling(checks: Iterable[SettlingCheck]) -> None:
    """Print the decisions that are the same, accuracy and crops of each method."""
    for each in checks:
        low, high = 100 * each.same_low, 100 * each.same_high
        print(
            f"{each.method}: {each.same:,} of {each.images:,} decisions are those of all crops "
            f"({low:.2f} to {high:.2f} %)"
        )
        print(f"  top-1 {100 * each.top1:.2f}, with all crops {100 * each.top1_of_all:.2f}")
        crops = f"{each.crops:.1f} ({each.crops_low:.1f} to {each.crops_high:.1f}) of {each.of}"
        print(f"  crops an image: {crops}")
        verdict = "holds" if each.holds else "IS BROKEN"
        print(f"  promise of {each.p:g} {verdict}: p of as many or more is {p_value(each.as_rare)}")


def print_comparison(comparison: Mapping[str, Any], a: str, b: str) -> None:
    """Print the counts, the difference in accuracy with its interval, and McNemar's p."""
    images, both, only_a, only_b = (comparison[n] for n in ("images", "both", "only_a", "only_b"))
    table = Table("", f"{b} right", f"{b} wrong", box=None, pad_edge=False)
    table.add_row(f"{a} right", f"{both:,}", f"{only_a:,}")
    table.add_row(f"{a} wrong", f"{only_b:,}", f"{images - both - only_a - only_b:,}")
    print_rich(table)
    low, high = 100 * comparison["low"], 100 * comparison["high"]
    print(
        f"{a} minus {b}: {100 * comparison['difference']:+.2f} points ({low:+.2f} to {high:+.2f})"
    )
    print(f"McNemar, exact: p = {p_value(comparison['p'])}")
