"""Whether draws have the distribution they should.

Streams are fixed, so that a test either always passes or always fails; its level is 1 in a
thousand.
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
    """The first rows of a stream of its own: float64 (count, 8)."""
    return sampling.uniforms(0, stream, "0" * 64, 0, count)


def layered_rows(stream: str, count: int = DRAWS // 2) -> Tensor:
    """The same in layers: float64 (count, layers, 8)."""
    return sampling.layers(0, stream, "0" * 64, 0, count)


def assert_fits(drawn: Tensor, chances: Sequence[float]) -> None:
    """Integers from 0 on, against the chance of each; none that has no chance."""
    counts = torch.bincount(drawn, minlength=len(chances)).numpy()
    assert len(counts) == len(chances)
    possible = np.array(chances) > 0
    assert counts[~possible].sum() == 0
    expected = len(drawn) * np.array(chances)[possible]
    assert expected.min() > 5, "too few draws for a chi-square test"
    assert stats.chisquare(counts[possible], expected).pvalue > LEVEL


def assert_even(drawn: Tensor, count: int) -> None:
    """Integers from 0 to count - 1, as likely each."""
    assert_fits(drawn, [1 / count] * count)


def assert_uniform(drawn: Tensor, low: float, high: float) -> None:
    """Numbers on [low, high)."""
    assert stats.kstest(drawn.numpy(), stats.uniform(low, high - low).cdf).pvalue > LEVEL


def assert_independent(first: Tensor, second: Tensor) -> None:
    """Two columns of small integers, by their table of counts."""
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(table, (first.numpy(), second.numpy()), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    assert stats.chi2_contingency(table).pvalue > LEVEL
