"""Methods beside one of them, image by image: paired differences, and bytes of further views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.kernels.statistics import Z
from pipeline.methods.registry import views_read
from pipeline.run import Run

if TYPE_CHECKING:
    import pandas as pd


class Beside(NamedTuple):
    """A method beside another one."""

    difference: float
    """Its top-1 minus the other's, mean over seeds."""
    difference_low: float
    difference_high: float
    """Ends of the 95 % interval over images."""
    p: float
    """p-value of the test that the mean difference is 0, two-sided."""
    extra_mb: float
    """Vectors of views that it reads and the other does not, in megabytes of a run."""


def beside(runs: Sequence[Run], method: str) -> dict[str, Beside]:
    """Compare all methods of some runs, which differ in their seeds alone, with one of them.

    An image counts once, by the mean over seeds of what it is right more often, so that draws do
    not make images more than there are.

    Args:
        runs: Finished runs.
        method: Method that the others are compared with; where it is missing, values are NaN.

    Returns:
        The comparison of each method, in the order of the table of scores.
    """
    tables = [run.store.open(run.named("scores")[0]).table("scores") for run in runs]
    right = [_right(table) for table in tables]
    if method not in right[0]:
        return dict.fromkeys(right[0], Beside(*[math.nan] * 5))
    sizes = view_bytes(runs[0])
    own = _views(runs[0], method)
    found = {}
    for name in right[0]:
        gains = np.mean([each[name] - each[method] for each in right], axis=0)
        extra = sum(sizes[view] for view in _views(runs[0], name) - own)
        found[name] = Beside(*paired_mean(gains), extra / 1e6)
    return found


def paired_mean(gains: np.ndarray) -> tuple[float, float, float, float]:
    """Return the mean of paired differences, its 95 % interval, and the p-value that it is 0.

    Args:
        gains: Difference of each image, (images,).
    """
    mean = float(gains.mean())
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    if error == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    return mean, mean - Z * error, mean + Z * error, math.erfc(abs(mean) / error / math.sqrt(2))


def view_bytes(run: Run) -> dict[str, int]:
    """Return the bytes of the vectors that the methods of a finished run read, by view set."""
    found = {}
    counts = views_read(run.settings.chosen.values(), run.settings.scores)
    for name, count in counts.items():
        array = run.store.open(run.named(f"embeddings-{name}")[0]).array("embeddings")
        images, views, *numbers = array.shape
        found[name] = array.dtype.itemsize * images * min(views, count) * math.prod(numbers)
    return found


def _views(run: Run, method: str) -> set[str]:
    return set(run.settings.chosen[method].views(run.settings.scores))


def _right(table: pd.DataFrame) -> Mapping[str, np.ndarray]:
    """Return whether each image is classified correctly, float64 (images,), by method."""
    pairs = table.groupby("method", sort=False)
    return {
        str(name): rows.sort_values("image_id")["correct"].to_numpy(np.float64)
        for name, rows in pairs
    }
