"""Weighted cross-alignment (WCA) against its formulas in plain loops, and worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.kernels.matching import Descriptions, aligned_image, aligned_texts, cross_align
from tests.helpers.vectors import by_class, ragged, unit_rows
from tests.reference.formulas import dot

HALF = math.sqrt(0.5)


def blended(whole: np.ndarray, parts: list[np.ndarray], scale: float) -> list[float]:
    """Parts weighed by softmax(scale * cosine with the whole), their sum scaled to length 1."""
    powers = [math.exp(scale * dot(whole, part)) for part in parts]
    total = math.fsum(powers)
    mixed = [0.0] * len(whole)
    for power, part in zip(powers, parts, strict=True):
        for place, value in enumerate(part):
            mixed[place] += power / total * value
    length = math.sqrt(math.fsum(value * value for value in mixed))
    return [value / length for value in mixed]


@pytest.mark.slow
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 3),
    crops=st.integers(1, 6),
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    scales=st.tuples(*[st.sampled_from([0.0, 1.0, math.exp(2), math.exp(4)])] * 2),
)
@settings(max_examples=60, deadline=None)
def test_cross_alignment_against_plain_loops(
    seed: int, images: int, crops: int, counts: list[int], scales: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    image, views = unit_rows(rng, images, 8), unit_rows(rng, images, crops, 8)
    names, (vectors, labels) = unit_rows(rng, len(counts), 8), ragged(rng, counts, 8)
    descriptions = Descriptions.from_rows(vectors, labels, len(counts))
    groups = by_class(vectors, labels, len(counts))
    pictures = [
        blended(whole.numpy(), list(parts.numpy()), scales[0])
        for whole, parts in zip(image, views, strict=True)
    ]
    texts = [
        blended(name.numpy(), parts, scales[1]) for name, parts in zip(names, groups, strict=True)
    ]
    scores = [[dot(picture, text) for text in texts] for picture in pictures]
    assert_near(aligned_image(image, views, scales[0]), pictures)
    assert_near(aligned_texts(names, descriptions, scales[1]), texts)
    assert_near(cross_align(image, views, names, descriptions, *scales), scores)


def assert_near(found: Tensor, expected: list[list[float]]) -> None:
    assert found.dtype == torch.float64
    assert found.shape == (len(expected), len(expected[0]))
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-9, abs=1e-11)


def float64(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_crops_like_the_image_weigh_more() -> None:
    """Cosines 1 and 0 at scale ln 3: weights 3/4 and 1/4, mean (3, 1) / 4."""
    image, crops = float64([[1, 0]]), float64([[1, 0], [0, 1]])[None]
    found = aligned_image(image, crops, math.log(3))
    assert found[0].tolist() == pytest.approx([3 / math.sqrt(10), 1 / math.sqrt(10)], abs=1e-12)


def test_texts_like_their_label_weigh_more() -> None:
    """Two classes with labels across; the second has one text more, at scale ln 2.

    Class 0: cosines 1 and 0, weights 2/3 and 1/3. Class 1: cosines 0, 1 and -1, weights as
    2, 4 and 1 of 7, so that the mean is (2, 3) / 7.
    """
    vectors = float64([[1, 0], [1, 0], [0, 1], [0, 1], [0, -1]])
    descriptions = Descriptions.from_rows(vectors, torch.tensor([0, 1, 0, 1, 1]), 2)
    found = aligned_texts(float64([[1, 0], [0, 1]]), descriptions, math.log(2))
    expected = [[2 / math.sqrt(5), 1 / math.sqrt(5)], [2 / math.sqrt(13), 3 / math.sqrt(13)]]
    assert found.tolist() == [pytest.approx(row, abs=1e-12) for row in expected]


def test_cross_alignment_worked_by_hand() -> None:
    """Crops as above, one text each: cosines with (3, 1) / sqrt(10), not with its mean."""
    image, crops = float64([[1, 0]]), float64([[1, 0], [0, 1]])[None]
    descriptions = Descriptions.from_rows(float64([[0, 1], [HALF, HALF]]), torch.tensor([0, 1]), 2)
    labels = float64([[1, 0], [0, -1]])
    found = cross_align(image, crops, labels, descriptions, math.log(3), 5.0)
    assert found[0].tolist() == pytest.approx([1 / math.sqrt(10), 4 * HALF / math.sqrt(10)])


def test_padding_is_no_text() -> None:
    """All of a class's texts are unlike its label, which padding is not."""
    vectors = float64([[-1, 0], [0, 1], [0, 1], [0, 1]])
    descriptions = Descriptions.from_rows(vectors, torch.tensor([0, 1, 1, 1]), 2)
    found = aligned_texts(float64([[1, 0], [0, 1]]), descriptions, 50.0)
    assert torch.allclose(found, float64([[-1, 0], [0, 1]]), atol=1e-12)


def test_without_scale_all_weigh_the_same() -> None:
    rng = np.random.default_rng(2)
    descriptions = Descriptions.from_rows(*ragged(rng, [3, 1, 5], 8), 3)
    found = aligned_texts(unit_rows(rng, 3, 8), descriptions, 0.0)
    assert torch.allclose(found, descriptions.means(), rtol=1e-10)


def test_labels_must_be_as_many_as_classes() -> None:
    texts = Descriptions.from_rows(torch.eye(3, 4), torch.tensor([0, 1, 1]), 2)
    crops = torch.eye(4)[None]
    with pytest.raises(ValueError, match="one label vector per class"):
        cross_align(crops[:, 0], crops, crops[0], texts, 1.0, 1.0)
