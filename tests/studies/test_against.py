"""Methods beside one of them: against plain sums over images and seeds, in a sweep."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.cli.study_tables import print_sweep_table
from pipeline.core.progress import Reporter
from pipeline.run import Run
from pipeline.studies.against import paired_mean
from pipeline.studies.experiments import Experiment
from pipeline.studies.stored import settings_in
from pipeline.studies.sweeps import Sweep
from tests.reference.case import array

CLOSE = pytest.approx


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=50))
def test_against_a_plain_test(gains: list[int]) -> None:
    values = np.array(gains) / 3
    mean, low, high, p = paired_mean(values)
    assert mean == CLOSE(math.fsum(values) / len(values))
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    if error == 0:
        assert (low, high, p) == (mean, mean, float(mean == 0))
    else:
        assert (low, high) == CLOSE(stats.norm.interval(0.95, mean, error), 1e-12, 1e-12)
        assert p == CLOSE(2 * stats.norm.sf(abs(mean / error)))


def test_one_image_says_nothing() -> None:
    assert paired_mean(np.array([1.0])) == (1.0, -math.inf, math.inf, 1.0)


@pytest.mark.slow
def test_a_sweep_compares_every_method(made: Run, tiny: Path) -> None:
    values = {"set": ["scores.methods=[cupl, abs]", "scores.n=4"], "seeds": 2}
    experiment = Experiment.model_validate({**values, "against": "abs"})
    sweep = Sweep.of("against", str(tiny), experiment)
    sweep.execute(Reporter(True))
    table = sweep.table().set_index("method")
    right = []
    for _, run in sweep.runs:
        scores = run.store.open(run.named("scores")[0]).table("scores")
        wide = scores.pivot(index="image_id", columns="method", values="correct").astype(float)
        right.append(wide)
    mean = sum(right) / 2
    for method, row in table.iterrows():
        gains = mean[method] - mean["abs"]
        assert row["difference"] == CLOSE(gains.mean())
        assert row["difference"] == CLOSE(row["top1"] - table.loc["abs", "top1"])
        assert (row["difference_low"], row["difference_high"], row["p"])[:2] == CLOSE(
            paired_mean(gains.to_numpy())[1:3]
        )
    images, dim = array(sweep.runs[0][1], "embeddings-image").shape[::2]
    assert table["extra_mb"].to_dict() == CLOSE({"cupl": 2 * dim * images / 1e6, "abs": 0})


def test_small_p_values_and_seconds_keep_their_digits(capsys: pytest.CaptureFixture[str]) -> None:
    fixed = {"grid": 0, "row": "", "dataset": "a", "images": 8, "classes": 2, "top1": 0.5}
    values = [("b", 3.21e-5, 0.00123), ("c", 0.0, 12.345), ("d", 0.75, math.nan)]
    names = ["method", "p", "scoring_s"]
    rows = pd.DataFrame([fixed | dict(zip(names, row, strict=True)) for row in values])
    print_sweep_table(rows, "a", "profile official", "markdown")
    printed = [line.split(" | ")[:3] for line in capsys.readouterr().out.splitlines()[4:]]
    assert printed == [
        ["| b", "3.21e-05", "0.00123"],
        ["| c", "<1e-300", "12.3"],
        ["| d", "0.75", ""],
    ]


def test_what_is_compared_is_no_setting() -> None:
    columns = ["grid", "crops.k windows.k", "method", "top1", "difference", "p", "scoring_s"]
    assert settings_in(pd.DataFrame(columns=columns)) == ["crops.k windows.k"]
