"""Rated texts against plain loops in float64, on images of which some texts say the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kernels.matching import Descriptions
from pipeline.methods.base import MethodInputs, Views, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.rated import RatedTexts
from pipeline.run import Run
from tests.helpers.runs import Runner, make_all
from tests.reference import rivals as ref
from tests.reference.case import array

DIM = 5
CLOSE = pytest.approx
Vectors = np.ndarray


def units(rng: np.random.Generator, *shape: int) -> Vectors:
    vectors = rng.normal(size=(*shape, DIM)) + rng.uniform(0, 2)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def scores(
    views: dict[str, Vectors],
    texts: Sequence[Vectors],
    block: int = 1000,
    shares: Vectors | None = None,
    **values: Any,
) -> Vectors:
    """What the pipeline makes of views, a block at a time; `shares` weigh feature crops."""
    rows = torch.from_numpy(np.concatenate(texts))
    labels = torch.from_numpy(np.repeat(range(len(texts)), [*map(len, texts)]))
    images = len(next(iter(views.values())))

    def some(part: slice) -> Views:
        found = {name: ViewVectors(torch.from_numpy(each[part])) for name, each in views.items()}
        if shares is not None:
            weights = torch.from_numpy(shares[part])
            found["feature"] = found["feature"]._replace(weights=weights)
        return found

    inputs = MethodInputs(
        {"cupl": Descriptions.from_rows(rows, labels, len(texts))},
        ScoresConfig(**{"n": 3, "m": None, **values}),
        images=images,
        block=some,
    )
    scorer = RatedTexts().scorer(inputs)
    parts = [slice(i, min(i + block, images)) for i in range(0, images, block)]
    return torch.cat([scorer(part, some(part)) for part in parts]).numpy()


def expected(v: Sequence[Vectors], texts: Sequence[Vectors], scale: float) -> list[list[float]]:
    """Scores by loops over images, classes and texts."""
    plain, every = ref.mean_texts(texts), range(len(v))
    p = [ref.softmax([scale * ref.dot(x, m) for m in plain]) for x in v]
    means = []
    for c, own in enumerate(texts):
        count = math.fsum(p[i][c] for i in every)
        ratings = []
        for text in own:
            cosines = [ref.dot(x, text) for x in v]
            mean = math.fsum(cosines) / len(v)
            spread = math.sqrt(math.fsum((each - mean) ** 2 for each in cosines) / len(v))
            inside = math.fsum(p[i][c] * cosines[i] for i in every) / count
            rating = (inside - mean) / spread if spread > 1e-6 else 0.0
            ratings.append(rating if rating > 1e-6 else 0.0)
        equal = math.fsum(ratings) / len(ratings)
        weights = [count * each + equal for each in ratings] if any(ratings) else [1.0] * len(own)
        pairs = zip(weights, own, strict=True)
        means.append(ref.unit(sum((w * text for w, text in pairs), start=0 * own[0])))
    return [[ref.dot(x, mean) for mean in means] for x in v]


@given(
    seed=st.integers(0, 2**32),
    images=st.integers(1, 9),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    branches=st.sampled_from([("raw", "feature"), ("raw",), ("feature",), ()]),
    repeated=st.booleans(),
    scale=st.sampled_from([1.0, 26.66, 100.0]),
)
@settings(max_examples=40, deadline=None)
def test_against_loops(
    seed: int,
    images: int,
    counts: list[int],
    branches: tuple[str, ...],
    repeated: bool,
    scale: float,
) -> None:
    rng = np.random.default_rng(seed)
    texts = [units(rng, count) for count in counts]
    views = {name: units(rng, images, 3) for name in branches}
    if not branches:
        views = {"image": units(rng, images, 1)}
    if repeated:
        texts.append(texts[0])
        views = {name: each[rng.integers(0, images, images)] for name, each in views.items()}
    on = {name: name in branches for name in ("raw", "feature")}
    found = scores(views, texts, logit_scale=scale, **on)
    v = np.mean([each.mean(axis=1) for each in views.values()], axis=0)
    assert found == CLOSE(np.array(expected(v, texts, scale)), abs=1e-10)


def test_feature_crops_may_be_in_expectation() -> None:
    rng = np.random.default_rng(0)
    texts, raw, windows = [units(rng, 3), units(rng, 2)], units(rng, 6, 3), units(rng, 6, 4)
    shares = 3 * rng.dirichlet(np.ones(4), 6)
    found = scores({"raw": raw, "feature": windows}, texts, shares=shares)
    expectation = (windows * shares[:, :, None] / 3).sum(axis=1)
    v = (raw.mean(axis=1) + expectation) / 2
    assert found == CLOSE(np.array(expected(v, texts, 100.0)), abs=1e-10)


def test_by_hand() -> None:
    """Two classes of two images each; class 0's second text is what class 1 looks like."""
    a, b = [1.0, 0.0], [0.0, 1.0]
    views = {"image": np.array([[a], [a], [b], [b]])}
    both = {"raw": False, "feature": False, "logit_scale": 1e6}
    texts = [np.array([a, [0.6, 0.8], a]), np.array([b])]
    found = scores(views, texts, **both)
    # Means are (.9558, .2941) and (0, 1), so that images are told apart, and both ratings of
    # (1, 0) are (1 - .5) / .5 = 1; that of (.6, .8) is (.6 - .7) / .1 = -1, which counts as 0.
    weights = np.array([2 * 1 + 2 / 3, 2 / 3, 2 * 1 + 2 / 3])
    mean = weights @ texts[0]
    assert found[0] == CLOSE([mean[0] / np.linalg.norm(mean), 0], abs=1e-10)


def test_a_text_that_no_image_bears_out_counts_less() -> None:
    """Of each class's texts one describes another class: rated, most images are right again."""
    rng = np.random.default_rng(1)
    true = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    labels = np.arange(DIM).repeat(20)
    views = true[labels, None] + 0.35 * rng.normal(size=(100, 1, DIM))
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    texts = [np.stack([true[c], true[c - 1], true[c - 1]]) for c in range(DIM)]
    texts = [np.concatenate([own, own[:1]]) + 0.1 * rng.normal(size=(4, DIM)) for own in texts]
    texts = [own / np.linalg.norm(own, axis=1, keepdims=True) for own in texts]
    rated = scores({"image": views}, texts, raw=False, feature=False, logit_scale=10.0)
    plain = views[:, 0] @ np.array(ref.mean_texts(texts)).T
    right = [(each.argmax(axis=1) == labels).mean() for each in (plain, rated)]
    assert right[1] > right[0] + 0.05


def test_scores_are_the_same_in_any_blocks() -> None:
    rng = np.random.default_rng(2)
    views = {name: units(rng, 300, 3).astype(np.float32) for name in ("raw", "feature")}
    texts = [units(rng, 3).astype(np.float32) for _ in range(4)]
    whole = scores(views, texts)
    for block in (1, 7, 128):
        assert scores(views, texts, block).astype(np.float32) == CLOSE(whole, abs=1e-7)


def test_it_scores_what_is_stored(made: Run, run_of: Runner) -> None:
    run = run_of("scores.methods=[abs, rated-texts]", "scores.expectation=true")
    assert make_all(run)
    found = array(run, "scores", "logits")[:, 1]
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1
