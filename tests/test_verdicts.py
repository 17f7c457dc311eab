"""What scores say of each image, and how sure shares of images are."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.errors import AbsError
from pipeline.statistics import bootstrap, wilson
from stages.scores import judge
from tests import reference as ref


def verdicts(
    logits: list[list[float]], labels: list[int], classes: list[int] | None = None
) -> pd.DataFrame:
    """Columns stand for all classes in their order, or for those given."""
    images = pd.DataFrame({"image_id": [f"image {i}" for i in range(len(labels))], "label": labels})
    names = np.array(range(len(logits[0])) if classes is None else classes)
    scores = np.array(logits, np.float32)
    table: pd.DataFrame = judge("abs", scores, chances_of(logits), images, names)
    assert table["image_id"].tolist() == images["image_id"].tolist()
    assert table["label"].tolist() == labels
    assert set(table["method"]) == {"abs"}
    return table


def chances_of(logits: list[list[float]]) -> np.ndarray:
    """Any probabilities that no other row or column shares."""
    return np.arange(np.size(logits), dtype=float).reshape(np.shape(logits)) / 1000


def test_ties_go_to_the_first_class() -> None:
    rows = verdicts([[1.0, 3.0, 3.0, 2.0]] * 4 + [[0.0] * 4], [0, 1, 2, 3, 2])
    assert rows["pred"].tolist() == [1, 1, 1, 1, 0]
    assert rows["rank"].tolist() == [4, 1, 2, 3, 3]
    assert rows["correct"].tolist() == [False, True, False, False, False]
    assert rows["margin"].tolist() == [-2.0, 0.0, 0.0, -1.0, 0.0]
    assert [list(top) for top in rows["top5"]] == [[1, 2, 3, 0]] * 4 + [[0, 1, 2, 3]]
    assert rows["confidence"].to_numpy() == pytest.approx([0.001, 0.005, 0.009, 0.013, 0.016])
    assert rows["confidence"].dtype == np.float32


def test_columns_that_stand_for_some_classes() -> None:
    """Labels and predictions are classes, ranks count those that compete."""
    rows = verdicts([[1, 3, 2], [5, 4, 0], [0, 4, 4]], [9, 4, 30], [4, 9, 30])
    assert rows["pred"].tolist() == [9, 4, 9]
    assert rows["rank"].tolist() == [1, 1, 2]
    assert rows["correct"].tolist() == [True, True, False]
    assert rows["margin"].tolist() == [1.0, 1.0, 0.0]
    assert [list(top) for top in rows["top5"]] == [[9, 30, 4], [4, 9, 30], [9, 30, 4]]


def test_one_class_has_no_rival() -> None:
    rows = verdicts([[0.3], [-2]], [7, 7], [7])
    assert rows["pred"].tolist() == [7, 7]
    assert rows["rank"].tolist() == [1, 1]
    assert rows["margin"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_must_be_numbers(value: float) -> None:
    with pytest.raises(AbsError, match="abs: scores that are no numbers"):
        verdicts([[1.0, value]], [0])


@given(data=st.data(), count=st.integers(2, 9), images=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_verdicts_against_counting(data: st.DataObject, count: int, images: int) -> None:
    """Few distinct values, so that ties are common; any increasing classes."""
    values = st.lists(st.integers(-3, 3), min_size=count, max_size=count)
    several = st.sets(st.integers(0, 50), min_size=count, max_size=count)
    classes = sorted(data.draw(several))
    logits = [[float(value) for value in data.draw(values)] for _ in range(images)]
    places = [data.draw(st.integers(0, count - 1)) for _ in range(images)]
    table = verdicts(logits, [classes[place] for place in places], classes)
    best = [list(top) for top in table["top5"]]
    for row, top, scores, own in zip(table.itertuples(), best, logits, places, strict=True):
        order = ref.ranked(scores)
        others = [score for place, score in enumerate(scores) if place != own]
        assert (row.pred, row.rank) == (classes[order[0]], ref.rank_of(own, scores))
        assert row.correct == (order[0] == own)
        assert top == [classes[place] for place in order[:5]]
        assert row.margin == scores[own] - max(others)


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (7, 20), (480, 480), (61, 5794)])
def test_wilson_against_scipy(successes: int, count: int) -> None:
    expected = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson(successes, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("successes", "count"), [(0, 9), (9, 9), (3, 9), (409, 480), (5000, 6000)])
def test_the_bootstrap_is_that_of_the_binomial(successes: int, count: int) -> None:
    """Ten thousand resamples know a percentile to a fraction of the share's standard error."""
    share = successes / count
    exact = [stats.binom.ppf(tail, count, share) / count for tail in (0.025, 0.975)]
    slack = max(1 / count, 0.1 * math.sqrt(share * (1 - share) / count)) + 1e-12
    assert bootstrap(successes, count) == pytest.approx(exact, abs=slack)
    assert bootstrap(successes, count) == bootstrap(successes, count)


def test_the_bootstrap_resamples_images() -> None:
    right = np.arange(200) < 150
    rows = np.random.default_rng(3).integers(0, 200, (4000, 200))
    drawn = np.quantile(right[rows].mean(axis=1), [0.025, 0.975])
    assert bootstrap(150, 200) == pytest.approx(drawn, abs=0.0101)


def test_intervals_without_observations_know_nothing() -> None:
    assert wilson(0, 0) == bootstrap(0, 0) == (0, 1)
