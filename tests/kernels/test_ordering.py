"""The order of draws: against every choice from its definition, and what it does to the promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.kernels import kriging, ordering
from pipeline.kernels.kriging import by_place, correlations
from pipeline.kernels.ordering import best_order
from pipeline.kernels.rounds import looks
from tests.kernels.test_settling import places_of
from tests.reference import settling


@given(st.integers(0, 2**32 - 1), st.integers(9, 16), st.sampled_from([1e-17, 1e-3, 0.2]))
@hypothesis_settings(max_examples=8)
def test_each_draw_leaves_the_narrowest_interval(seed: int, count: int, p: float) -> None:
    places = places_of(np.random.default_rng(seed), 1, count)
    assert best_order(torch.tensor(places), p)[0].tolist() == settling.order(places[0], p)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 3))
@hypothesis_settings(max_examples=10)
def test_order_has_every_draw_once_and_is_that_of_the_image_alone(
    seed: int, count: int, images: int
) -> None:
    places = torch.tensor(places_of(np.random.default_rng(seed), images, count))
    found = best_order(places, 1e-3)
    assert found.shape == (images, count)
    assert (found.sort(dim=1).values == torch.arange(count)).all()
    assert torch.equal(found[-1:], best_order(places[-1:], 1e-3))


@pytest.mark.parametrize("p", [1e-17, 5e-324])
def test_order_has_every_draw_once_however_small_the_probability(p: float) -> None:
    places = torch.tensor(places_of(np.random.default_rng(0), 3, 60))
    assert (best_order(places, p).sort(dim=1).values == torch.arange(60)).all()


def test_draws_after_those_that_are_chosen_follow_in_their_own_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ordering, "CHOSEN", 9)
    places = places_of(np.random.default_rng(6), 1, 16)
    found = best_order(torch.tensor(places), 1e-3)[0].tolist()
    assert found[:9] == settling.order(places[0], 1e-3)[:9]
    assert found[9:] == sorted(found[9:])
    assert sorted(found) == list(range(16))


def test_predictions_of_an_image_do_not_depend_on_what_is_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = torch.tensor(places_of(np.random.default_rng(7), 5, 20))
    whole, order = by_place(places, 8), best_order(places, 1e-3)
    monkeypatch.setattr(kriging, "NUMBERS", 2 * 20**2)
    assert [len(part) for part in kriging.in_parts(places)] == [2, 2, 1]
    for one, other in zip(whole, by_place(places, 8), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(order, best_order(places, 1e-3))


def test_too_few_draws_for_a_look_keep_their_order() -> None:
    places = torch.tensor(places_of(np.random.default_rng(1), 2, 8))
    assert best_order(places, 1e-3).tolist() == [list(range(8))] * 2
    assert best_order(places[:0], 1e-3).shape == (0, 8)


@pytest.mark.parametrize("lone", [0, 3])
def test_equal_draws_are_taken_as_one_place(lone: int) -> None:
    """Draws of a single place, of an image of a few pixels say, break nothing."""
    places = torch.tensor([[0, 0, 2, 2]]).expand(1, 20, 4).clone()
    places[0, :lone] += torch.tensor([1, 1, 2, 2])
    order = best_order(places, 1e-3)
    assert sorted(order[0].tolist()) == list(range(20))
    assert order[0, 0] == lone
    ordered = places[:, order[0]]
    for n in (8, 12, 20):
        assert all(part.isfinite().all() for part in by_place(ordered, n))


def test_order_narrows_the_interval_at_every_look() -> None:
    """Beside draws as they come: by a seventh after eight of them, on average."""
    places = torch.tensor(places_of(np.random.default_rng(2), 12, 60))
    ordered = torch.take_along_dim(places, best_order(places, 1e-3)[..., None], dim=1)
    gains = [
        float((by_place(ordered, n).error / by_place(places, n).error).mean()) for n in looks(60)
    ]
    assert gains[0] < 0.86
    assert max(gains) < 0.97


TRUTHS = {
    "smooth": lambda smooth, rough, none: smooth,
    "rough": lambda smooth, rough, none: rough,
    "none": lambda smooth, rough, none: none,
    "half smooth": lambda smooth, rough, none: (smooth + none) / 2,
    "a quarter rough": lambda smooth, rough, none: (rough + 3 * none) / 4,
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_promise_holds_at_ties_in_the_best_order(truth: str) -> None:
    """Over all looks, decisions between two tied classes differ as seldom as promised."""
    p, count, draws = 0.01, 60, 2000
    places = torch.tensor(places_of(np.random.default_rng(3), 10, count))
    places = torch.take_along_dim(places, best_order(places, p)[..., None], dim=1)
    law = TRUTHS[truth](*correlations(places))
    noise = np.random.default_rng(4).normal(size=(len(places), count, draws))
    x = torch.linalg.cholesky(law) @ torch.tensor(noise)
    x -= x.mean(dim=1, keepdim=True)
    stopped = np.zeros((len(places), draws), bool)
    for n in looks(count):
        weights, residual, error = by_place(places, n)
        lead = (weights[:, None] @ x[:, :n])[:, 0].abs()
        spread = ((x[:, :n] * (residual @ x[:, :n])).sum(dim=1) / (n - 1)).sqrt()
        t = (lead / (spread * error.sqrt()[:, None])).numpy()
        stopped |= len(looks(count)) * stats.t.sf(t, n - 1) <= p
    wrong = int(stopped.sum()) // 2  # which of two tied classes is ahead is a matter of chance
    assert stats.binom.sf(wrong - 1, stopped.size, p) > 1e-3
