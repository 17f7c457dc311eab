"""The look of all figures, and how they are saved.

Needs Matplotlib, of the extra `report`. Text is never read as TeX, so that class names, paths and
settings stay what they are; colours are those of Okabe and Ito, which colour-blind readers can tell
apart, and what differs in colour also differs in dashes, marker or label.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError, MissingInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Palette of Okabe and Ito without its yellow, which is too pale for lines on white."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.2)), (0, (6, 2, 1.5, 2)), (0, (9, 2.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, GREY = "#1f2328", "#59636e"
FORMATS = ("pdf", "svg", "png")
WIDTH = 6.75
"""Width of a figure in inches: the text of a page in ICML's format."""
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8,
    "text.parse_math": False,
    "text.usetex": False,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "abs-pipeline",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw and save in the style of this module; MissingInput if there is no Matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise MissingInput(
            "figures need Matplotlib, of the extra `report`: pip install 'abs-pipeline[report]'"
        ) from None
    style: Any = STYLE
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure; its size is in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(
    figure: Figure, path: Path, formats: Sequence[str], title: str, source: Mapping[str, Any]
) -> list[Path]:
    """Save a figure under a path without suffix, once in each format; the paths written.

    Every file says in its metadata what it was drawn from, and equal figures give equal files.

    Args:
        figure: What to save.
        path: Folder and name of the files.
        formats: Suffixes, of `FORMATS`.
        title: Title of the figure, for the metadata.
        source: What it was drawn from: dataset, settings, keys of artifacts.
    """
    about = json.dumps(source, sort_keys=True)
    fields: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title, "Subject": about, "CreationDate": None},
        "svg": {"Title": title, "Description": about, "Date": None},
        "png": {"Title": title, "Description": about},
    }
    written = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in formats:
            target = path.with_name(f"{path.name}.{suffix}")
            figure.savefig(target, format=suffix, metadata=fields[suffix])
            written.append(target)
    except OSError as error:
        raise AbsError(
            f"{path}: {error.strerror or error}; choose another place by --out"
        ) from None
    return written


def clear(axes: Axes) -> None:
    """Take ticks and frame from axes that show a picture."""
    axes.set_axis_off()
    axes.set_aspect("equal")


def clipped(text: str, length: int = 40) -> str:
    """Return a text on one line, cut in the middle if it is longer than `length`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) <= length:
        return line
    half = (length - 1) // 2
    return f"{line[:half]}…{line[-half:]}"
