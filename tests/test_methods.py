"""Methods against brute force in float64, and the components of ABS switched on and off."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from pipeline.matching import Descriptions
from pipeline.methods import METHODS
from pipeline.methods.needs import MatchSettings
from tests.conftest import Runner, make_all

COUNTS = (3, 1, 4)
"""Descriptions of each of three classes."""


def unit(*shape: int) -> np.ndarray:
    vectors = np.random.default_rng(sum(shape)).normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def score(method: str, views: dict[str, np.ndarray], soft: bool = True) -> np.ndarray:
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    texts = Descriptions.from_rows(torch.from_numpy(unit(8, 5)), torch.from_numpy(labels), 3)
    scorer = METHODS[method].scorer(texts, MatchSettings(0.1, soft))
    return scorer({name: torch.from_numpy(view) for name, view in views.items()}).numpy()


def means() -> np.ndarray:
    """The renormalised mean text of each class."""
    texts = unit(8, 5)
    found = np.stack([part.sum(axis=0) for part in np.split(texts, np.cumsum(COUNTS)[:-1])])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("method", ["clip", "cupl"])
def test_a_mean_text_method_is_a_cosine(method: str) -> None:
    image = unit(4, 1, 5)
    assert score(method, {"image": image}) == pytest.approx(image[:, 0] @ means().T, abs=1e-12)


def test_without_soft_matching_views_meet_the_mean_text() -> None:
    raw, feature = unit(4, 6, 5), unit(4, 7, 5)
    expected = (np.concatenate([raw, feature], axis=1) @ means().T).sum(axis=1)
    found = score("abs", {"feature": feature, "raw": raw}, soft=False)
    assert found == pytest.approx(expected, abs=1e-12)


def test_without_any_component_abs_is_cupl() -> None:
    image = unit(4, 1, 5)
    assert np.array_equal(
        score("abs", {"image": image}, soft=False).round(12),
        score("cupl", {"image": image}).round(12),
    )


def test_the_eight_component_rows_need_no_new_encoding(run_of: Runner) -> None:
    make_all(run_of())
    logits = {}
    for raw, feature, soft in product((True, False), repeat=3):
        run = run_of(f"scores.raw={raw}", f"scores.feature={feature}", f"scores.soft={soft}")
        stages = [stage for stage in run.stages if stage.name in ("scores", "metrics")]
        outcomes = run.execute(run.stages, [], quiet=True)
        encoded = [o.stage for o in outcomes if o.computed and o.stage not in ("scores", "metrics")]
        assert encoded == []
        scores = run.store.open(stages[0]).array("logits")
        logits[raw, feature, soft] = np.asarray(scores[:, 2])
    pairs = list(product(logits, repeat=2))
    assert all(np.array_equal(logits[a], logits[b]) == (a == b) for a, b in pairs)
    only, other = logits[True, False, True], logits[False, True, True]
    assert logits[True, True, True] == pytest.approx(only + other, abs=1e-4)


def test_without_crops_none_are_made(run_of: Runner) -> None:
    from pipeline.run import needed

    run = run_of("scores.raw=false", "scores.feature=false")
    names = [stage.name for stage in needed([run.stages[-1]], run.stages)]
    assert not [name for name in names if name in ("crops", "attention", "embeddings-raw")]
