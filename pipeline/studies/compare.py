"""Paired comparison of two methods or settings over the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.kernels.statistics import Paired, paired
from pipeline.run import Run

if TYPE_CHECKING:
    import pandas as pd


def compare_methods(run_of: Callable[[list[str]], Run], a: str, b: str) -> Paired:
    """Compare two methods, each written `METHOD` or `METHOD@section.field=value`.

    `run_of` returns the run with further overrides. Raises MissingInput, which names the command to
    run, if one of the two is not scored yet; AbsError if their images differ.
    """
    import pandas as pd

    first, second = (_correct(run_of, text) for text in (a, b))
    both = pd.concat([first, second], axis=1, join="inner", keys=["a", "b"])
    if not len(both) == len(first) == len(second):
        raise AbsError(f"{a} and {b} were scored on different images")
    return paired(both["a"].to_numpy(), both["b"].to_numpy())


def _correct(run_of: Callable[[list[str]], Run], text: str) -> pd.Series[bool]:
    """Return whether a method classifies each image correctly, indexed by image_id."""
    method, _, override = text.partition("@")
    run = run_of([override] if override else [])
    scores = run.store.open(run.named("scores")[0]).table(
        "scores", columns=["image_id", "method", "correct"]
    )
    rows = scores[scores["method"] == method]
    if rows.empty:
        raise ConfigError(
            f"{method!r} is not scored; {did_you_mean(method, set(scores['method']))}"
        )
    return rows.set_index("image_id")["correct"]
