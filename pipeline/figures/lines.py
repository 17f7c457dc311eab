"""Accuracy over the settings of a sweep: Figure 4, and one's own sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.layers import layered
from pipeline.core.section import flatten
from pipeline.core.words import counted
from pipeline.figures.style import COLOURS, DASHES, GREY, MARKERS, WIDTH, clipped, new_figure
from pipeline.kernels.statistics import wilson
from pipeline.studies.paper import METHODS
from pipeline.studies.stored import settings_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "crops.alpha": "smallest crop \N{GREEK SMALL LETTER ALPHA}",
    "scores.n": "crops per branch N",
    "crops.k": "top patches K",
    "scores.temperature": "temperature T",
    "crops.temperature": "temperature of patches \N{GREEK SMALL LETTER TAU}",
    "crops.layer": "layer of attention",
}
"""Names of settings on an axis, where the paper has one."""


def draw_lines(table: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Draw a panel for each grid of a sweep: top-1 in percent over its setting, a line per method.

    Bands are sigma over seeds, or Wilson's 95 % interval where there is one seed. Of a grid with
    several settings, the one with most values is the axis, and the others make further lines.

    Args:
        table: Table of a sweep, as `pipeline.studies.sweeps.Sweep.table` makes it.
        paper: Reported results at the paper's settings: method, paper (top-1 in percent), table.
    """
    grids = [rows for _, rows in table.groupby("grid", sort=True) if _varied(rows)]
    if not grids:
        raise ConfigError("no setting of this sweep has two values; there is no line to draw")
    columns = min(len(grids), 3)
    rows = -(-len(grids) // columns)
    figure = new_figure(WIDTH if columns > 1 else WIDTH / 2, 2.2 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=len(grids) > 1)
    styles = {_method(name): i for i, name in enumerate(dict.fromkeys(table["method"]))}
    for panel, grid in zip(axes.flat, grids, strict=False):
        _draw_grid(panel, grid, styles, paper)
    for empty in axes.flat[len(grids) :]:
        empty.set_axis_off()
    for first in axes[:, 0]:
        first.set_ylabel("top-1 accuracy in %")
    figure.suptitle(_title(table), x=0.01, ha="left", fontsize=8)
    _add_legend(figure, axes.flat[: len(grids)])
    return figure


def _varied(rows: pd.DataFrame) -> list[str]:
    """Return the settings of a grid that have more than one value, that with most values first."""
    counts = {name: rows[name].nunique() for name in settings_in(rows)}
    varied = [name for name, count in counts.items() if count > 1]
    return sorted(varied, key=lambda name: (not _is_number(rows[name]), -counts[name]))


def _is_number(values: Any) -> bool:
    return bool(np.issubdtype(np.asarray(values.dropna().tolist()).dtype, np.number))


def _draw_grid(
    panel: Axes, grid: pd.DataFrame, styles: dict[str, int], paper: pd.DataFrame | None
) -> None:
    """Draw the lines of one grid; `styles` numbers the lines by label, and gains new ones."""
    field, *others = _varied(grid)
    number = _is_number(grid[field])
    places = {value: i for i, value in enumerate(dict.fromkeys(grid[field]))}
    for name, rows in grid.groupby(["method", *others], sort=False):
        method, *values = (str(part) for part in name)
        chosen = [f"{n}={v}" for n, v in zip(others, values, strict=True)]
        label = clipped(", ".join([_method(method), *chosen]), 34)
        x = rows[field].to_numpy(float) if number else rows[field].map(places).to_numpy(float)
        _draw_line(panel, x, rows, styles.setdefault(label, len(styles)), label)
    if number:
        _draw_reported(panel, field, styles, paper)
    else:
        panel.set_xticks(
            list(places.values()), [clipped(str(v), 18) for v in places], rotation=20, ha="right"
        )
        panel.margins(x=0.1)
    panel.set_xlabel(LABELS.get(field, field))
    panel.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.5)


def _draw_line(panel: Axes, x: np.ndarray, rows: pd.DataFrame, style: int, label: str) -> None:
    order = np.argsort(x, kind="stable")
    middle, low, high = (values[order] for values in _band(rows))
    colour, marker = COLOURS[style % len(COLOURS)], MARKERS[style % len(MARKERS)]
    panel.fill_between(x[order], low, high, color=colour, alpha=0.15, linewidth=0)
    dashes = DASHES[style % len(DASHES)]
    panel.plot(x[order], middle, color=colour, marker=marker, linestyle=dashes, label=label)


def _band(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return top-1 of each row and the ends of its band, in percent."""
    top1, sigma = rows["top1"].to_numpy(float), rows["sigma"].to_numpy(float)
    several = rows["seeds"].to_numpy() > 1
    counts = rows["images"].to_numpy()
    ends = np.array(
        [wilson(round(t * int(n)), int(n)) for t, n in zip(top1, counts, strict=True)]
    ).reshape(-1, 2)
    low = np.where(several, top1 - sigma, ends[:, 0])
    high = np.where(several, top1 + sigma, ends[:, 1])
    return 100 * top1, 100 * low, 100 * high


def _draw_reported(
    panel: Axes, field: str, styles: Mapping[str, int], paper: pd.DataFrame | None
) -> None:
    """Draw the paper's results as hollow markers at its value of the setting."""
    place = paper_settings().get(field)
    if paper is None or not isinstance(place, int | float):
        return
    for row in paper.itertuples():
        style = styles[_method(str(row.method))]
        panel.plot(
            [place],
            [float(str(row.paper))],
            linestyle="none",
            marker=MARKERS[style % len(MARKERS)],
            markersize=7,
            markerfacecolor="none",
            color=COLOURS[style % len(COLOURS)],
            label=f"{_method(str(row.method))}, paper (Table {row.table})",
        )


def paper_settings() -> dict[str, Any]:
    """Return the settings of the paper's main results by dotted name."""
    return dict(flatten(layered(None, "paper"), ""))


def _method(name: str) -> str:
    return METHODS.get(name, name)


def _title(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    several = (table["seeds"] > 1).any()
    band = (
        f"bands: \N{GREEK SMALL LETTER SIGMA} over {int(table['seeds'].max())} seeds"
        if several
        else "bands: 95 % interval (Wilson)"
    )
    return f"{clipped(str(first['dataset']))}, {counted(int(first['images']), 'images')}; {band}"


def _add_legend(figure: Figure, panels: Any) -> None:
    """Add one legend below all panels, with each label once."""
    found: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found |= {label: handle for handle, label in zip(handles, labels, strict=True)}
    longest = max(map(len, found))
    characters = 15 * figure.get_figwidth()  # that fit beside each other
    columns = max(1, min(4, len(found), int(characters / (longest + 8))))
    figure.legend(
        handles=list(found.values()),
        labels=list(found),
        loc="outside lower center",
        ncols=columns,
    )
