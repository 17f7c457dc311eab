"""Two methods or settings over the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.kernels.statistics import Paired, paired
from pipeline.run import Run

if TYPE_CHECKING:
    import pandas as pd


def compared(run: Callable[[list[str]], Run], a: str, b: str) -> Paired:
    """Compare `METHOD` or `METHOD@section.field=value`, of runs that `run` makes of changes.

    Raises MissingInput that names the command, if one of them is not scored yet.
    """
    import pandas as pd

    one, other = (_correct(run, each) for each in (a, b))
    both = pd.concat([one, other], axis=1, join="inner", keys=["a", "b"])
    if not len(both) == len(one) == len(other):
        raise AbsError(f"{a} and {b} were scored on other images")
    return paired(both["a"].to_numpy(), both["b"].to_numpy())


def _correct(run: Callable[[list[str]], Run], text: str) -> pd.Series[bool]:
    """Whether each image is right, by its id."""
    method, _, change = text.partition("@")
    chosen = run([change] if change else [])
    scores = chosen.store.open(chosen.named("scores")[0]).table(
        "scores", columns=["image_id", "method", "correct"]
    )
    rows = scores[scores["method"] == method]
    if rows.empty:
        raise ConfigError(
            f"{method!r} is not scored; {did_you_mean(method, set(scores['method']))}"
        )
    return rows.set_index("image_id")["correct"]
