"""What scores say of each image: prediction, rank, margin, and how ties are settled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import AbsError
from pipeline.methods.per_image import per_image_results
from tests.reference import formulas as ref


def verdicts(
    logits: list[list[float]], labels: list[int], classes: list[int] | None = None
) -> pd.DataFrame:
    """Columns stand for all classes in their order, or for those given."""
    images = pd.DataFrame({"image_id": [f"image {i}" for i in range(len(labels))], "label": labels})
    names = np.array(range(len(logits[0])) if classes is None else classes)
    scores = np.array(logits, np.float32)
    table: pd.DataFrame = per_image_results("abs", scores, chances_of(logits), images, names)
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
    with pytest.raises(AbsError, match="abs: scores are NaN or infinite"):
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
