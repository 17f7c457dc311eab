"""The sequential test: against formulas in plain numbers, and its promise on simulated scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.kernels.kriging import Prediction, by_mean, by_place
from pipeline.kernels.ordering import best_order
from pipeline.kernels.rounds import FIRST, looks, round_ends
from pipeline.kernels.settling import bernstein, change_bound
from tests.reference import settling


def places_of(rng: np.random.Generator, images: int, count: int) -> np.ndarray:
    """Ends of boxes of an image of 300 x 200 pixels, (images, count, 4)."""
    corners = np.sort(rng.uniform(size=(images, count, 2, 2)), axis=2)
    return np.asarray((corners * [300, 200]).astype(int).reshape(images, count, 4))


def plain(images: int, n: int, count: int) -> Prediction:
    return by_mean(images, n, 1 / count)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(FIRST, 30),
    more=st.integers(1, 30),
    classes=st.integers(2, 6),
    forever=st.booleans(),
)
@hypothesis_settings(max_examples=25)
def test_bound_is_the_sum_of_tails_times_looks(
    seed: int, n: int, more: int, classes: int, forever: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, n, classes)) + 2 * rng.normal(size=(2, 1, classes))
    others, places = rng.normal(size=(2, classes)) * n, places_of(rng, 2, n + more)
    prediction = by_mean(2, n, 0.0) if forever else by_place(torch.tensor(places), n)
    found = change_bound(torch.tensor(scores), torch.tensor(others), n + more, prediction)
    expected = [
        settling.bound(s, o, n + more, None if forever else each)
        for s, o, each in zip(scores, others, places, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-14)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(0, 30))
@hypothesis_settings(max_examples=25)
def test_prediction_by_place_is_the_best_linear_one(seed: int, n: int, more: int) -> None:
    places = places_of(np.random.default_rng(seed), 1, n + more)
    weights, residual, error = by_place(torch.tensor(places), n)
    laws = settling.correlations(places[0])
    alike = laws[0]
    np.testing.assert_allclose(weights[0], settling.weights(alike, n), atol=1e-9)
    np.testing.assert_allclose(error, [max(settling.errors(laws, n))], rtol=1e-6, atol=1e-12)
    x = np.random.default_rng(seed).normal(size=n)
    expected = (n - 1) * settling.variance(x, alike[:n, :n])
    assert float(x @ residual[0].numpy() @ x) == pytest.approx(expected, rel=1e-7)


def test_prediction_of_places_that_are_all_there_is_their_mean() -> None:
    weights, _, error = by_place(torch.tensor(places_of(np.random.default_rng(1), 3, 9)), 9)
    np.testing.assert_allclose(weights, 1 / 9, rtol=1e-12)
    assert error.tolist() == [0, 0, 0]


@pytest.mark.parametrize("law", range(3), ids=["smooth", "rough", "none"])
@pytest.mark.parametrize("n", [8, 15, 41])
def test_size_of_a_look_is_at_most_nominal_at_ties(law: int, n: int) -> None:
    """Tails are no fatter under each law, with the draws in their best order."""
    rng, p, draws = np.random.default_rng(n), 0.01, 4000
    places = torch.tensor(places_of(rng, 10, 60))
    places = torch.take_along_dim(places, best_order(places, p)[..., None], dim=1)
    weights, residual, error = (part.numpy() for part in by_place(places, n))
    beyond = 0
    for i, each in enumerate(places.numpy()):
        alike = settling.correlations(each)[law]
        x = rng.normal(size=(draws, 60)) @ np.linalg.cholesky(alike).T
        spread = np.sqrt(np.einsum("dn,nm,dm->d", x[:, :n], residual[i], x[:, :n]) / (n - 1))
        t = (x[:, :n] @ weights[i] - x.mean(axis=1)) / (spread * np.sqrt(error[i]))
        beyond += int((stats.t.sf(t, n - 1) < p).sum())
    assert beyond <= 1.15 * p * 10 * draws


@given(st.integers(1, 200))
def test_rounds_end_with_all_and_no_look_is_early(count: int) -> None:
    ends = round_ends(count)
    assert ends == sorted(set(ends))
    assert ends[-1] == count
    assert all(FIRST <= look < count for look in looks(count))
    assert set(looks(count)) == set(ends[:-1])


def test_nothing_settles_early_without_spread_or_without_a_lead() -> None:
    constant, none = torch.tensor([3.0, 1.0]).expand(1, 20, 2), torch.zeros(1, 2)
    placed = by_place(torch.tensor(places_of(np.random.default_rng(2), 1, 60)), 20)
    for prediction in (plain(1, 20, 60), placed):
        assert change_bound(constant, none, 60, prediction) == 1
        ties = torch.randn(1, 20, 1).expand(1, 20, 2)
        assert change_bound(ties, none, 60, prediction) == 1
    far = torch.randn(1, FIRST - 1, 2) * 1e-6 + torch.tensor([1.0, 0])
    assert change_bound(far, none, 60, plain(1, FIRST - 1, 60)) == 1
    assert change_bound(torch.randn(1, 1, 2), none, 1, plain(1, 1, 1)) == 0


def test_one_class_has_no_rival() -> None:
    assert change_bound(torch.randn(4, 9, 1), torch.zeros(4, 1), 60, plain(4, 9, 60)).max() == 0


@pytest.mark.parametrize("draws", [0, 61])
def test_refuses_no_draws_and_too_many(draws: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 60"):
        change_bound(torch.zeros(1, draws, 2), torch.zeros(1, 2), 60, plain(1, 60, 60))


def wrong_decisions(scores: np.ndarray, p: float) -> tuple[int, float]:
    """Number of images that stop with another class in front than all draws have; mean draws.

    Draws have the same places in all images, and these say nothing.
    """
    images, count, classes = scores.shape
    final = scores.sum(axis=1).argmax(axis=1)
    places = torch.tensor(places_of(np.random.default_rng(5), 1, count))
    unsettled, wrong, used = np.arange(images), 0, np.full(images, count)
    for n in looks(count):
        prefix, none = scores[unsettled, :n], torch.zeros(len(unsettled), classes)
        prediction = Prediction(
            *(part.expand(len(unsettled), *part.shape[1:]) for part in by_place(places, n))
        )
        stops = change_bound(torch.tensor(prefix), none, count, prediction).numpy() <= p
        fronts = np.einsum("in,inc->ic", prediction.weights.numpy(), prefix).argmax(axis=1)
        wrong += int((fronts != final[unsettled])[stops].sum())
        used[unsettled[stops]] = n
        unsettled = unsettled[~stops]
    return wrong, float(used.mean())


DRAWN = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-2, 2, shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, shape),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0], ids=["ties", "near", "apart"])
def test_promise_holds_on_simulated_scores(kind: str, spread: float) -> None:
    """Decisions that differ are as rare as promised: one-sided binomial test at one in 10,000."""
    rng, p, images = np.random.default_rng(7), 0.01, 3000
    means = spread * rng.normal(size=(images, 1, 4))
    wrong, used = wrong_decisions(DRAWN[kind](rng, (images, 40, 4)) + means, p)
    assert stats.binom.sf(wrong - 1, images, p) > 1e-4
    assert used < 40 or spread == 0


def test_a_rule_without_correction_breaks_the_promise_at_ties() -> None:
    """The promise test can fail: at ties of two, the same tail at every look is too bold."""
    rng, p, images = np.random.default_rng(7), 0.01, 3000
    scores = rng.normal(size=(images, 60, 2))
    scores -= scores.mean(axis=1, keepdims=True)  # forever apart by nothing
    scores[:, -1, 0] += 1e-9
    uncorrected = p * len(looks(60))
    assert stats.binom.sf(wrong_decisions(scores, uncorrected)[0] - 1, images, p) < 1e-4
    assert stats.binom.sf(wrong_decisions(scores, p)[0] - 1, images, p) > 1e-4


def test_bernstein_bounds_more_than_student_and_falls_with_the_lead() -> None:
    rng = np.random.default_rng(3)
    scores = torch.tensor(rng.uniform(size=(40, 2))).expand(50, 40, 2).clone()
    scores[:, :, 0] += torch.linspace(0.5, 4, 50)[:, None]
    none = torch.zeros(50, 2)
    prediction = plain(50, 40, 60)
    by_student = change_bound(scores, none, 60, prediction)
    by_bernstein = change_bound(scores, none, 60, prediction, bernstein(1.0))
    assert (by_bernstein >= by_student).all()
    assert by_bernstein[-1] < 0.01
    assert (by_bernstein.diff() <= 1e-12).all()
