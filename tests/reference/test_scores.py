"""Compare the scores of every method with plain float64 loops, and the table with the logits.

The reference starts from the stored float16 embeddings. Logits are float32.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats

from pipeline.methods.wca import Wca
from pipeline.run import Run
from tests.reference import formulas as ref
from tests.reference.case import (
    METHODS,
    POOL,
    PROFILES,
    SQUARES,
    Case,
    M,
    N,
    array,
    feature_vectors,
    stored_texts,
    table,
)

pytestmark = pytest.mark.slow

Texts = list[list[np.ndarray]]


def logits(run: Run, method: str) -> np.ndarray:
    """Return stored logits of a method: (images, classes)."""
    stored = array(run, "scores", "logits")
    assert stored.dtype == np.float32
    return stored[:, list(run.settings.chosen).index(method)]


def views(run: Run, name: str, n: int = N) -> np.ndarray:
    """Return stored vectors of a view set in float64: (images, n, dim)."""
    stored = feature_vectors(run, n) if name == "feature" else array(run, f"embeddings-{name}")
    return stored[:, :n].astype(np.float64)


def first(texts: Texts, m: int = M) -> Texts:
    return [group[:m] for group in texts]


# --- Every method -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["clip", "clip-e", "clip-d", "waffle", "cupl"])
def test_mean_texts_meet_the_whole_image(case: Case, method: str) -> None:
    """Check that methods with mean texts use all texts of a class, whatever `scores.m` is."""
    texts = stored_texts(case.run, method)
    expected = [ref.mean_scores(image[0], texts) for image in views(case.run, "image", 1)]
    assert logits(case.run, method) == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)
    assert list(case.run.settings.chosen) == METHODS


@pytest.mark.parametrize(
    ("changes", "temperature", "n", "m"),
    [
        ([], 0.03, N, M),
        (["scores.temperature=0.01"], 0.01, N, M),
        (["scores.temperature=0.02", "scores.logit_scale=50"], 0.04, N, M),
        (["scores.n=4", "scores.m=2"], 0.03, 4, 2),
        (["scores.m=null"], 0.03, N, 8),
    ],
)
def test_abs_softly_matches_all_crops(
    case: Case, changes: list[str], temperature: float, n: int, m: int
) -> None:
    run = case.made("scores", *changes)
    texts = first(stored_texts(run, "cupl"), m)
    assert [len(group) for group in texts] == [min(m, 8), min(m, 5), min(m, 3)]
    crops = np.concatenate([views(run, "feature", n), views(run, "raw", n)], axis=1)
    expected = [ref.soft_scores(of_image, texts, temperature) for of_image in crops]
    rounding = 1e-5 * max(1.0, 0.03 / temperature)
    assert logits(run, "abs") == pytest.approx(np.array(expected), rel=rounding, abs=1e-6)


@pytest.mark.parametrize("name", ["paper", "aligned"])
def test_abs_under_the_other_profiles(case: Case, name: str) -> None:
    run = case.made("scores", profile=name)
    texts, temperature = first(stored_texts(run, "cupl")), PROFILES[name].temperature
    crops = np.concatenate([views(run, "feature"), views(run, "raw")], axis=1)
    expected = [ref.soft_scores(of_image, texts, temperature) for of_image in crops]
    assert logits(run, "abs") == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "scales"),
    [
        ([], (4.0, 2.0)),
        (["methods.wca.image_scale=2", "methods.wca.text_scale=3"], (2.0, 3.0)),
        (["scores.logit_scale=50"], (4.0 - math.log(2), 2.0 - math.log(2))),
        (["methods.wca.seed=1", "methods.wca.n=11"], (4.0, 2.0)),
        (["scores.m=1"], (4.0, 2.0)),
    ],
)
def test_wca_aligns_squares_with_all_texts(
    case: Case, changes: list[str], scales: tuple[float, float]
) -> None:
    run = case.made("scores", *changes)
    method = run.settings.chosen["wca"]
    assert isinstance(method, Wca)
    images, squares = views(run, "image", 1), views(run, "squares", POOL)
    labels = [group[0] for group in stored_texts(run, "clip")]
    texts, drawn = stored_texts(run, "cupl"), method.drawn()
    powers = math.exp(scales[0]), math.exp(scales[1])
    expected = [
        ref.cross_aligned_scores(image[0], pool[drawn], labels, texts, *powers)
        for image, pool in zip(images, squares, strict=True)
    ]
    assert logits(run, "wca") == pytest.approx(np.array(expected), rel=3e-5, abs=1e-5)


def test_wca_draws_evenly_from_its_pool() -> None:
    """Check draws with replacement: uniform, the same every time, other ones for other seeds."""
    draws = Wca(pool=7, n=7000).drawn()
    counts = Counter(draws)
    assert sorted(counts) == [*range(7)]
    assert stats.chisquare([counts[i] for i in range(7)]).pvalue > 1e-3
    assert Wca(pool=7, n=7000).drawn() == draws
    assert Wca(pool=7, n=60).drawn() == draws[:60]
    others = [Wca(pool=7, n=60, seed=seed).drawn() for seed in range(20)]
    assert len({tuple(other) for other in others}) == 20
    assert others[1][:-1] != others[0][1:]
    repeats = np.mean([a == b for a, b in pairwise(draws)])
    assert abs(repeats - 1 / 7) < 4 * math.sqrt(6 / 49 / 7000)


def test_wca_draws_as_many_as_it_is_told(case: Case) -> None:
    method = case.run.settings.chosen["wca"]
    assert isinstance(method, Wca)
    assert len(method.drawn()) == SQUARES
    assert set(method.drawn()) <= set(range(POOL))
    assert views(case.run, "squares", POOL).shape[1] == POOL


@pytest.mark.parametrize("on", list(product((True, False), repeat=3)))
def test_the_eight_rows_of_components(finer: Case, on: tuple[bool, bool, bool]) -> None:
    """Check the rows of Table 4: each branch on or off, with soft matching or mean texts.

    Without any branch the whole image takes the place of the crops.
    """
    raw, feature, soft = on
    switches = [f"scores.raw={raw}", f"scores.feature={feature}", f"scores.soft={soft}"]
    run = finer.made("scores", "scores.methods=[abs]", *switches)
    names = [name for name, used in (("raw", raw), ("feature", feature)) if used]
    of_image = [views(finer.run, name) for name in names] or [views(finer.run, "image", 1)]
    texts = first(stored_texts(run, "cupl"))
    expected = [expected_row(crops, texts, soft) for crops in np.concatenate(of_image, axis=1)]
    assert logits(run, "abs") == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)


def expected_row(crops: np.ndarray, texts: Texts, soft: bool) -> list[float]:
    if soft:
        return ref.soft_scores(crops, texts, 0.03)
    each = [ref.mean_scores(crop, texts) for crop in crops]
    return [math.fsum(column) for column in zip(*each, strict=True)]


def test_scores_say_what_the_logits_say(case: Case) -> None:
    rows = table(case.run, "scores", "scores").set_index(["image_id", "method"])
    ids = table(case.run, "index", "images")["image_id"]
    assert len(rows) == len(case.files) * len(METHODS)
    for i, method in product(range(len(case.files)), METHODS):
        row, scores = rows.loc[(ids[i], method)], logits(case.run, method)[i].tolist()
        order = ref.ranked(scores)
        assert row["label"] == case.labels[i]
        assert row["pred"] == order[0]
        assert list(row["top5"]) == order[:5]
        assert row["rank"] == ref.rank_of(case.labels[i], scores)
        assert row["correct"] == (row["rank"] == 1)
        others = [s for c, s in enumerate(scores) if c != case.labels[i]]
        assert row["margin"] == pytest.approx(scores[case.labels[i]] - max(others), abs=1e-6)
        scale = case.run.settings.scores.logit_scale / (2 * N if method == "abs" else 1)
        probs = [math.exp(scale * (s - scores[order[0]])) for s in scores]
        assert row["confidence"] == pytest.approx(1 / math.fsum(probs), rel=1e-5)


# --- All windows, and drawn ones --------------------------------------------------------------


def test_logits_are_the_same_whether_all_windows_are_embedded_or_the_drawn(case: Case) -> None:
    """Compare up to the rounding of vectors that were encoded in different batches."""
    run = case.made("scores", "windows.encode=drawn")
    for method in METHODS:
        difference = np.abs(logits(run, method) - logits(case.run, method)).max()
        assert difference <= (2e-3 * np.abs(logits(run, "abs")).max() if method == "abs" else 0)


def expectation(run: Run, soft: bool = True) -> np.ndarray:
    """Compute N times the expected score of a feature crop, over all windows: (images, classes)."""
    texts, vectors = first(stored_texts(run, "cupl")), array(run, "embeddings-feature")
    probs = table(run, "crops-feature", "patch_probs").sort_values(["image", "rank"])
    expected = []
    for i, of_image in enumerate(vectors.astype(np.float64)):
        chances = probs.loc[probs["image"] == i, "probability"].tolist()
        sizes = len(of_image) // len(chances)
        weights = [chance / sizes for chance in chances for _ in range(sizes)]
        rows = [expected_row(vector[None], texts, soft) for vector in of_image]
        expected.append([N * ref.dot(weights, column) for column in zip(*rows, strict=True)])
    return np.array(expected)


@pytest.mark.parametrize("soft", [True, False])
def test_the_expectation_is_the_sum_over_all_windows(case: Case, soft: bool) -> None:
    alone = ["scores.methods=[abs]", "scores.raw=false", "scores.expectation=true"]
    run = case.made("scores", *alone, f"scores.soft={soft}")
    assert logits(run, "abs") == pytest.approx(expectation(run, soft), rel=2e-5, abs=1e-6)


def test_the_expectation_adds_to_the_raw_crops(case: Case) -> None:
    run = case.made("scores", "scores.expectation=true")
    texts = first(stored_texts(run, "cupl"))
    raw = [ref.soft_scores(of_image, texts, 0.03) for of_image in views(run, "raw")]
    expected = np.array(raw) + expectation(run)
    assert logits(run, "abs") == pytest.approx(expected, rel=2e-5, abs=1e-6)
    for method in METHODS[:-1]:
        assert np.array_equal(logits(run, method), logits(case.run, method))


def test_many_draws_have_the_expectation_as_their_mean(finer: Case) -> None:
    """Compare within four standard errors of 2,000 draws, for every image and class."""
    n, alone = 2000, ["scores.methods=[abs]", "scores.raw=false", "layout.crops=2000"]
    drawn = finer.made("scores", *alone, f"scores.n={n}")
    exact = finer.made("scores", *alone, "scores.expectation=true")
    texts, vectors = first(stored_texts(drawn, "cupl")), feature_vectors(drawn, n)
    apart = logits(drawn, "abs") / n - logits(exact, "abs") / N
    for i, of_image in enumerate(vectors.astype(np.float64)):
        distinct, counts = np.unique(of_image, axis=0, return_counts=True)
        rows = np.array([ref.soft_scores(vector[None], texts, 0.03) for vector in distinct])
        mean = counts @ rows / n
        errors = np.sqrt(counts @ (rows - mean) ** 2 / n / n)
        assert (np.abs(apart[i]) <= 4 * errors).all()
        assert len(distinct) > 50
    assert np.abs(apart).max() > 0
