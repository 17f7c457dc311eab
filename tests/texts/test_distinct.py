"""Text sets without texts that are much alike, against a plain loop, and in a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.classifier.classifier import Classifier
from pipeline.core.errors import MissingInput
from pipeline.run import Run
from pipeline.texts.distinct import distinct, kept_rows
from tests.helpers.runs import DEMO, Runner, make_all
from tests.reference.case import array, table


def plain(cosines: np.ndarray, threshold: float, most: int | None) -> list[int]:
    kept: list[int] = []
    for i in range(len(cosines)):
        if all(cosines[i][j] <= threshold for j in kept) and (most is None or len(kept) < most):
            kept.append(i)
    return kept


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 12),
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0]),
    most=st.sampled_from([None, 1, 3, 50]),
)
@settings(max_examples=50, deadline=None)
def test_against_a_plain_loop(seed: int, count: int, threshold: float, most: int | None) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3))
    vectors = vectors[rng.integers(0, count, count)]  # some are equal
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.round(vectors @ vectors.T, 12)
    assert distinct(cosines, threshold, most) == plain(cosines, threshold, most)


def test_by_hand() -> None:
    """Texts at 0, 8 and 90 degrees: the cosine of the first two is .990."""
    angles = np.radians([0, 8, 90])
    cosines = np.cos(angles[:, None] - angles)
    assert distinct(cosines, 0.99, None) == [0, 2]
    assert distinct(cosines, 0.991, None) == [0, 1, 2]
    assert distinct(cosines, 0.991, 2) == [0, 1]


def test_the_order_is_that_of_seed_and_text() -> None:
    texts = pd.DataFrame({"text_id": range(40), "label": [0] * 20 + [1] * 20})
    texts["text"] = [f"text {i % 20}" for i in range(40)]
    vectors = np.eye(40)
    found = kept_rows(texts, vectors, 0.99, None, 0)
    assert sorted(found) == list(range(40))
    assert [each + 20 for each in found[:20]] == found[20:]  # classes share texts here
    turned = texts.iloc[::-1].reset_index(drop=True)
    again = kept_rows(turned, vectors, 0.99, None, 0)
    assert texts["text"].iloc[found].tolist() == turned["text"].iloc[again].tolist()
    assert kept_rows(texts, vectors, 0.99, None, 1) != found
    assert kept_rows(texts, vectors, 0.99, 5, 0) == [*found[:5], *found[20:25]]


def test_the_same_text_counts_once() -> None:
    texts = pd.DataFrame({"text_id": range(3), "label": 0, "text": ["a", "a", "b"]})
    found = kept_rows(texts, np.eye(3), 1.0, None, 0)
    assert sorted(texts["text"].iloc[found]) == ["a", "b"]


# --- In a run ---------------------------------------------------------------------------------


def distinct_run(run_of: Runner, **values: object) -> Run:
    changes = [f"descriptions.cupl.{name}={json.dumps(value)}" for name, value in values.items()]
    return run_of("scores.methods=[cupl]", "descriptions.cupl.rule=distinct", *changes)


def test_kept_texts_reach_the_scores(made: Run, tiny: Path, run_of: Runner) -> None:
    run = distinct_run(run_of, threshold=0.6, most=6)
    assert make_all(run)
    every, kept = (table(run, f"descriptions-cupl{end}", "texts") for end in ("-all", ""))
    vectors = array(run, "descriptions-cupl")
    assert 2 * 1 <= len(kept) < len(every)
    assert kept["text_set"].unique().tolist() == ["cupl"]
    for label, own in kept.groupby("label"):
        assert own["position"].tolist() == list(range(len(own)))
        assert len(own) <= 6
        assert set(own["text"]) <= set(every.loc[every["label"] == label, "text"])
        some = vectors[own["text_id"].to_numpy()].astype(float)
        assert (some @ some.T - 2 * np.eye(len(own))).max() <= 0.6 + 1e-6
    means = [vectors[own["text_id"]].sum(axis=0) for _, own in kept.groupby("label")]
    units = np.array([mean / math.sqrt(mean @ mean) for mean in means])
    images = array(run, "embeddings-image")[:, 0].astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    scores = array(run, "scores", "logits")[:, 0]
    assert scores == pytest.approx(images @ units.T, abs=1e-3)
    settings = {"scores.methods": ["cupl"], "descriptions.cupl.rule": "distinct"}
    settings |= {"descriptions.cupl.threshold": 0.6, "descriptions.cupl.most": 6}
    root, path = tiny.parent / "images", table(run, "index", "images")["path"][0]
    alone = Classifier.of(str(tiny), settings=settings)(root / path)
    assert alone.to_numpy().ravel() == pytest.approx(scores[0], abs=1e-3)


def test_a_second_file_adds_to_the_first(run_of: Runner, tmp_path: Path) -> None:
    names = list(json.loads((DEMO / "prompts" / "cupl.json").read_text()))
    more = tmp_path / "more.json"
    more.write_text(json.dumps({name: [f"One more of {name}."] for name in names}))
    plain, both = distinct_run(run_of), distinct_run(run_of, more=str(more))
    keys = [run.named("descriptions-cupl-all")[0].key for run in (plain, both)]
    assert keys[0] != keys[1]
    texts = [run.named("descriptions-cupl-all")[0].prompts.texts for run in (plain, both)]  # type: ignore[attr-defined]
    for without, with_more in zip(*texts, strict=True):
        assert with_more[:-1] == without
        assert with_more[-1].startswith("One more of")
    with pytest.raises(MissingInput, match=r"nothing\.json"):
        make_all(distinct_run(run_of, more="nothing.json"))


@pytest.mark.parametrize(("field", "value"), [("threshold", 0.5), ("most", 3), ("seed", 1)])
def test_each_setting_is_part_of_the_key_and_texts_are_encoded_once(
    run_of: Runner, field: str, value: float
) -> None:
    before, after = distinct_run(run_of), distinct_run(run_of, **{field: value})
    for name, same in (("descriptions-cupl-all", True), ("descriptions-cupl", False)):
        keys = [run.named(name)[0].key for run in (before, after)]
        assert (keys[0] == keys[1]) is same
