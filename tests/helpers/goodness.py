"""Goodness-of-fit tests for draws.

Streams are fixed, so that a test either always passes or always fails. The significance level is
0.001.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from pipeline.kernels import sampling

LEVEL = 1e-3
DRAWS = 200_000


def uniform_rows(stream: str, count: int = DRAWS) -> Tensor:
    """Return the first rows of a stream: float64 (count, 8)."""
    return sampling.uniforms(0, stream, "0" * 64, 0, count)


def layered_rows(stream: str, count: int = DRAWS // 2) -> Tensor:
    """Return the first rows of a stream in layers: float64 (count, layers, 8)."""
    return sampling.layers(0, stream, "0" * 64, 0, count)


def assert_fits(drawn: Tensor, chances: Sequence[float]) -> None:
    """Check that integers from 0 on have the given probabilities, by a chi-square test."""
    counts = torch.bincount(drawn, minlength=len(chances)).numpy()
    assert len(counts) == len(chances)
    possible = np.array(chances) > 0
    assert counts[~possible].sum() == 0
    expected = len(drawn) * np.array(chances)[possible]
    assert expected.min() > 5, "too few draws for a chi-square test"
    assert stats.chisquare(counts[possible], expected).pvalue > LEVEL


def assert_even(drawn: Tensor, count: int) -> None:
    """Check that integers from 0 to count - 1 are equally likely."""
    assert_fits(drawn, [1 / count] * count)


def assert_uniform(drawn: Tensor, low: float, high: float) -> None:
    """Check that numbers are uniform on [low, high), by a Kolmogorov-Smirnov test."""
    assert stats.kstest(drawn.numpy(), stats.uniform(low, high - low).cdf).pvalue > LEVEL


def assert_independent(first: Tensor, second: Tensor) -> None:
    """Check that two columns of small integers are independent, by their contingency table."""
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(table, (first.numpy(), second.numpy()), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    assert stats.chi2_contingency(table).pvalue > LEVEL
