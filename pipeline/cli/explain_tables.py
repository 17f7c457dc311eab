"""Print the explanation of a prediction."""

from __future__ import annotations

import string
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.cli.tables import print_rich
from pipeline.explain.deciding import Deciding


def print_deciding(deciding: Deciding) -> None:
    """Print the two classes, then a table of crops and the descriptions that they matched.

    Descriptions are lettered; their texts follow the table.
    """
    one = deciding.explanation
    print(f"image {one.image}: {visible(one.image_id)}")
    verdict = "right" if one.predicted == one.label else "wrong"
    print(f"predicted  {_scored(deciding, one.predicted)}, {verdict}")
    if one.rival is not None:
        second = "true class" if one.rival == one.label else "second class"
        print(f"rival      {_scored(deciding, one.rival)}, {second}; margin {deciding.margin:.4f}")
    print()
    print_rich(_table(deciding))
    print()
    texts = zip(deciding.texts["class"], deciding.texts["text"], strict=True)
    for letter, (name, text) in zip(_letters(deciding), texts, strict=True):
        print(f"{letter}  {visible(name)}: {visible(text)}")


def visible(text: str) -> str:
    """Return a text in which characters that do not print are escaped, such as control codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _scored(deciding: Deciding, label: int) -> str:
    one = deciding.explanation
    return f"{visible(one.names[label])} ({one.method} {one.scores[label]:.4f})"


def _letters(deciding: Deciding) -> list[str]:
    count = len(deciding.texts)
    return list(string.ascii_uppercase[:count]) if count <= 26 else [f"t{i}" for i in range(count)]


def _table(deciding: Deciding) -> Table:
    """Build a row for each view, one for all others, and one for their sum."""
    table = Table("view", "place", box=None, pad_edge=False)
    for name in ("difference", "predicted", "rival", *_letters(deciding)):
        table.add_column(name, justify="right")
    for row, cells in zip(deciding.views.itertuples(), deciding.cells, strict=False):
        place = f"{row.left},{row.top} - {row.right},{row.bottom} {row.space}"
        table.add_row(escape(f"{row.branch} {row.view}"), place, *_numbers(row, cells))
    one = deciding.explanation
    count = len(one.by_view()) - len(deciding.views)
    if count:
        table.add_row(f"{count} others", "", *_numbers(deciding.others, deciding.cells[-1]))
    whole = one.by_view()[["predicted", "rival", "difference"]].sum()
    table.add_row("sum", "", *_numbers(whole, deciding.cells.sum(axis=0)))
    return table


def _numbers(row: Any, cells: Any) -> list[str]:
    values = (row.difference, row.predicted, row.rival, *cells)
    return [f"{round(value, 4) + 0.0:.4f}" for value in values]  # never -0.0000
