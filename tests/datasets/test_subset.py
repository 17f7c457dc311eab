"""Few images that stand for a dataset are spread over its classes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.subset import evenly


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 30))
def test_a_sample_is_spread_evenly_over_the_classes(labels: list[int], count: int) -> None:
    samples = [(f"{number:02d}", str(label)) for number, label in enumerate(labels)]
    chosen = evenly(samples, count)
    assert len(chosen) == min(count, len(samples))
    assert set(chosen) <= set(samples)
    sizes = {label: sum(each == label for _, each in chosen) for label in map(str, set(labels))}
    spare = {label for label in sizes if sizes[label] < labels.count(int(label))}
    if count >= len(sizes) and spare:  # only a class without further images has fewer
        assert max(sizes.values()) - min(sizes[label] for label in spare) <= 1
