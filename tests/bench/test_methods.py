"""The costs of scoring that are measured are those of every method, on vectors it can read."""

from __future__ import annotations

import pytest

from pipeline.bench.methods import MEASURED, Vectors, measure
from pipeline.methods.registry import METHODS


@pytest.mark.parametrize("method", MEASURED)
def test_every_method_scores_random_vectors(method: str) -> None:
    vectors = Vectors(dim=8, images=6)
    cost = measure(method, vectors, vectors.texts(3, 2), 3)
    assert cost.method == method
    assert min(cost.prepared, cost.scored) >= 0
    assert cost.memory > 0


def test_all_but_the_method_that_runs_a_model_are_measured() -> None:
    assert {*METHODS} - {*MEASURED} == {"tpt"}
