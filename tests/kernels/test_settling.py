"""The sequential test: against formulas in plain numbers, and its promise on simulated scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.kernels.rounds import FIRST, looks, round_ends
from pipeline.kernels.settling import bernstein, change_bound
from tests.reference import settling


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(FIRST, 30),
    more=st.integers(1, 30),
    classes=st.integers(2, 6),
    forever=st.booleans(),
)
@hypothesis_settings(max_examples=50)
def test_bound_is_the_sum_of_tails_times_looks(
    seed: int, n: int, more: int, classes: int, forever: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, n, classes)) + 2 * rng.normal(size=(3, 1, classes))
    others = rng.normal(size=(3, classes)) * n
    count = n + more
    found = change_bound(torch.tensor(scores), torch.tensor(others), count, forever)
    expected = [settling.bound(s, o, count, forever) for s, o in zip(scores, others, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


@given(st.integers(1, 200))
def test_rounds_end_with_all_and_no_look_is_early(count: int) -> None:
    ends = round_ends(count)
    assert ends == sorted(set(ends))
    assert ends[-1] == count
    assert all(FIRST <= look < count for look in looks(count))
    assert set(looks(count)) == set(ends[:-1])


def test_nothing_settles_early_without_spread_or_without_a_lead() -> None:
    constant = torch.tensor([3.0, 1.0]).expand(1, 20, 2)
    assert change_bound(constant, torch.zeros(1, 2), 60) == 1
    ties = torch.randn(1, 20, 1).expand(1, 20, 2)
    assert change_bound(ties, torch.zeros(1, 2), 60) == 1
    far = torch.randn(1, FIRST - 1, 2) * 1e-6 + torch.tensor([1.0, 0])
    assert change_bound(far, torch.zeros(1, 2), 60) == 1
    assert change_bound(torch.randn(1, 1, 2), torch.zeros(1, 2), 1) == 0


def test_one_class_has_no_rival() -> None:
    assert change_bound(torch.randn(4, 9, 1), torch.zeros(4, 1), 60).max() == 0


@pytest.mark.parametrize("draws", [0, 61])
def test_refuses_no_draws_and_too_many(draws: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 60"):
        change_bound(torch.zeros(1, draws, 2), torch.zeros(1, 2), 60)


def wrong_decisions(scores: np.ndarray, p: float, forever: bool = False) -> tuple[int, float]:
    """Number of images that stop with another class in front than all draws have; mean draws."""
    images, count, classes = scores.shape
    final = scores.sum(axis=1).argmax(axis=1)
    unsettled, wrong, used = np.arange(images), 0, np.full(images, count)
    for n in looks(count):
        prefix = scores[unsettled, :n]
        bound = change_bound(torch.tensor(prefix), torch.zeros(len(prefix), classes), count)
        stops = bound.numpy() <= p
        wrong += int((prefix.sum(axis=1).argmax(axis=1) != final[unsettled])[stops].sum())
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
    by_student = change_bound(scores, none, 60)
    by_bernstein = change_bound(scores, none, 60, tail=bernstein(1.0))
    assert (by_bernstein >= by_student).all()
    assert by_bernstein[-1] < 0.01
    assert (by_bernstein.diff() <= 1e-12).all()
