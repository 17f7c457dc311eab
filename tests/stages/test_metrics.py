"""Metrics are sums over pieces of the scores, however these are divided."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pipeline.store.units import WHOLE
from stages.metrics import MetricsWorker

CLASSES = pd.DataFrame({"label": range(4), "name": list("abcd"), "present": [True] * 3 + [False]})


def scores(images: int, seed: int = 0) -> pd.DataFrame:
    """Draw the scores of two methods, image by image."""
    rng = np.random.default_rng(seed)
    label, rows = rng.integers(0, 3, images), 2 * images
    pred = np.where(rng.random((images, 2)) < 0.6, label[:, None], rng.integers(0, 4, (images, 2)))
    return pd.DataFrame(
        {
            "image_id": [f"{i // 2}.png" for i in range(rows)],
            "method": pd.Series(["clip", "abs"] * images, dtype="str"),
            "label": np.repeat(label, 2),
            "pred": pred.ravel(),
            "correct": np.repeat(label, 2) == pred.ravel(),
            "rank": rng.integers(1, 9, rows),
            "confidence": rng.random(rows),
        }
    )


def computed(table: pd.DataFrame, rows: int) -> dict[str, pd.DataFrame]:
    """Compute the three tables from pieces of some rows."""
    pieces = [table.iloc[start : start + rows] for start in range(0, len(table), rows)]
    (unit,) = WHOLE
    return MetricsWorker(lambda: iter(pieces), CLASSES, "birds", {"n": [1]}).compute(unit, None)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_tables_do_not_depend_on_the_pieces(rows: int) -> None:
    table = scores(100)
    whole, parts = computed(table, len(table)), computed(table, rows)
    for name in ("metrics", "per_class", "confusion"):
        pd.testing.assert_frame_equal(whole[name], parts[name], check_exact=True)


def test_every_figure_counts_single_images() -> None:
    table = scores(90)
    found = computed(table, 7)
    confusion = Counter(zip(table["method"], table["label"], table["pred"], strict=True))
    columns = [found["confusion"][name] for name in ("method", "label", "pred", "images")]
    assert {(m, i, j): n for m, i, j, n in zip(*columns, strict=True)} == confusion
    for row in found["metrics"].itertuples():
        own = [each for each in table.itertuples() if each.method == row.method]
        recalls = [
            np.mean([each.correct for each in own if each.label == label]) for label in range(3)
        ]
        assert row.images == len(own)
        assert row.top1 == pytest.approx(sum(each.correct for each in own) / len(own))
        assert row.top5 == pytest.approx(sum(each.rank <= 5 for each in own) / len(own))
        assert row.mean_per_class_recall == pytest.approx(np.mean(recalls))
        of_method = found["per_class"][found["per_class"]["method"] == row.method]
        assert of_method.sort_values("label")["top1"].tolist() == pytest.approx(recalls)
