"""Figures with their uncertainty, against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pipeline.kernels.statistics import bootstrap, calibration_error, mcnemar, paired, wilson


@pytest.mark.parametrize("count", range(9))
def test_mcnemar_is_the_share_of_outcomes_at_least_as_uneven(count: int) -> None:
    outcomes = [sum(each) for each in itertools.product((0, 1), repeat=count)]
    for only_a in range(count + 1):
        far = abs(only_a - count / 2)
        as_uneven = sum(abs(each - count / 2) >= far for each in outcomes)
        assert mcnemar(only_a, count - only_a) == pytest.approx(as_uneven / 2**count)


def test_mcnemar_of_many_is_finite_and_right() -> None:
    assert mcnemar(50_000, 50_000) == 1.0
    assert mcnemar(0, 2000) == 0.0 or mcnemar(0, 2000) < 1e-300
    # The normal approximation of 5,100 against 4,900 with its correction of a half.
    z = (100 - 0.5) / math.sqrt(10_000 / 4)
    assert mcnemar(5100, 4900) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_a_comparison_counts_pairs_and_its_interval_is_that_of_resampling() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(400) < 0.8, rng.random(400) < 0.7
    found = paired(a, b)
    assert found.images == 400 == found.both + found.only_a + found.only_b + found.neither
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.p == mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
    rows = rng.integers(0, 400, (4000, 400))
    drawn = (a[rows].astype(int) - b[rows]).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    assert paired(b, a).difference == -found.difference
    same = paired(a, a)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def counted(confidence: list[float], correct: list[bool], bins: int) -> float:
    """The calibration error as it is defined, image by image."""
    inside: dict[int, list[tuple[float, bool]]] = {}
    for sure, right in zip(confidence, correct, strict=True):
        place = next(k for k in reversed(range(bins)) if sure * bins >= k)
        inside.setdefault(place, []).append((sure, right))
    gaps = (
        abs(math.fsum(s for s, _ in each) - sum(r for _, r in each)) for each in inside.values()
    )
    return math.fsum(gaps) / len(confidence)


@pytest.mark.parametrize("bins", [1, 2, 15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calibration_error_is_the_mean_gap_over_bins(bins: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(1000).astype(dtype)
    confidence[:3] = 0, 1, 1
    correct = rng.random(1000) < confidence**2
    expected = counted(confidence.tolist(), correct.tolist(), bins)
    assert calibration_error(confidence, correct, bins) == pytest.approx(expected, abs=1e-7)


def test_calibration_error_of_those_who_are_always_sure() -> None:
    assert calibration_error(np.ones(4), np.array([True, True, True, False])) == 0.25


# --- Shares of images -------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (7, 20), (480, 480), (61, 5794)])
def test_wilson_against_scipy(successes: int, count: int) -> None:
    expected = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson(successes, count) == pytest.approx((expected.low, expected.high), 1e-12, 1e-12)


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
