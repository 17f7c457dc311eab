"""Soft matching and description vectors by class, against plain loops and by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.kernels import matching
from pipeline.kernels.matching import Descriptions, soft_match
from tests.helpers.vectors import by_class, ragged, unit_rows
from tests.reference import formulas as ref

COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def float64(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- Descriptions ----------------------------------------------------------------------------


def numbered(labels: list[int], classes: int) -> Descriptions:
    """Text i is the vector (i + 1,)."""
    vectors = torch.arange(1.0, len(labels) + 1)[:, None]
    return Descriptions.from_rows(vectors, torch.tensor(labels), classes)


def rows_of(descriptions: Descriptions) -> list[list[float]]:
    """The numbers of each class's texts, which must be present, and of no others."""
    kept: list[list[float]] = descriptions.vectors[..., 0].tolist()
    present = descriptions.present.tolist()
    for values, there in zip(kept, present, strict=True):
        assert [value != 0 for value in values] == there
    return [[value for value in values if value] for values in kept]


LABELS = [2, 0, 2, 1, 2, 0]


def test_texts_keep_their_order_within_a_class() -> None:
    descriptions = numbered(LABELS, 3)
    assert rows_of(descriptions) == [[2, 6], [4], [1, 3, 5]]
    assert descriptions.vectors.shape == (3, 3, 1)
    many = numbered([i % 2 for i in range(400)], 2)
    assert rows_of(many) == [list(range(1, 401, 2)), list(range(2, 401, 2))]


def test_a_class_without_texts_has_none() -> None:
    assert rows_of(numbered(LABELS, 4)) == [[2, 6], [4], [1, 3, 5], []]


def test_the_first_texts_of_each_class() -> None:
    descriptions = numbered(LABELS, 3)
    assert rows_of(descriptions.first(2)) == [[2, 6], [4], [1, 3]]
    assert rows_of(descriptions.first(1)) == [[2], [4], [1]]
    assert rows_of(descriptions.first(9)) == rows_of(descriptions)


def test_the_texts_of_some_classes() -> None:
    descriptions = numbered(LABELS, 3)
    assert rows_of(descriptions.of(torch.tensor([False, True, True]))) == [[4], [1, 3, 5]]
    assert rows_of(descriptions.of(torch.tensor([2, 0]))) == [[1, 3, 5], [2, 6]]


def test_texts_on_a_device() -> None:
    moved = numbered(LABELS, 3).to("meta")
    assert moved.vectors.is_meta
    assert moved.present.is_meta
    assert rows_of(numbered(LABELS, 3).to("cpu")) == [[2, 6], [4], [1, 3, 5]]


@given(seed=st.integers(0, 1000), counts=COUNTS)
@settings(max_examples=25, deadline=None)
def test_class_means_against_numpy(seed: int, counts: list[int]) -> None:
    vectors, labels = ragged(np.random.default_rng(seed), counts, 8)
    found = Descriptions.from_rows(vectors, labels, len(counts)).means().numpy()
    for label, row in enumerate(found):
        mean = vectors[labels == label].numpy().mean(axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), rel=1e-9, abs=1e-12)


# --- Soft matching ---------------------------------------------------------------------------


@pytest.mark.slow
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 3),
    crops=st.integers(1, 5),
    counts=COUNTS,
    temperature=st.sampled_from([0.005, 0.03, 1.0]),
    side=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_soft_matching_against_plain_loops(
    seed: int, images: int, crops: int, counts: list[int], temperature: float, side: int
) -> None:
    """Ragged classes, one class, one crop; and computed in blocks of any size, also ones smaller
    than an image or a class."""
    rng = np.random.default_rng(seed)
    vectors, labels = ragged(rng, counts, 8)
    features = unit_rows(rng, images, crops, 8)
    descriptions = Descriptions.from_rows(vectors, labels, len(counts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matching.SIDES, "cpu", side)
        found = soft_match(features, descriptions, temperature)
    texts = by_class(vectors, labels, len(counts))
    expected = [ref.soft_scores(image.numpy(), texts, temperature) for image in features]
    assert found.shape == (images, len(counts))
    assert found.dtype == torch.float64
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("side", [1, 2, 3, 7, 1024])
@pytest.mark.parametrize("temperature", [1e-6, 0.1])
def test_negative_similarities_in_blocks_of_any_size(side: int, temperature: float) -> None:
    """Crops unlike all texts, so that padding of similarity 0 would win; one class has no text."""
    rng = np.random.default_rng(2)
    vectors, labels = ragged(rng, [1, 6, 2, 6, 1], 8)
    labels += labels >= 2
    vectors[:, 0] = -vectors[:, 0].abs() - 2
    vectors = F.normalize(vectors, dim=-1)
    features = unit_rows(rng, 2, 5, 8)
    features[..., 0] = features[..., 0].abs() + 2
    features = F.normalize(features, dim=-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matching.SIDES, "cpu", side)
        found = soft_match(features, Descriptions.from_rows(vectors, labels, 6), temperature)
    texts = by_class(vectors, labels, 6)
    assert max(float(crop @ text) for crop in features.flatten(0, 1) for text in vectors) < 0
    for image, row in zip(features.numpy(), found.tolist(), strict=True):
        rest = [texts[c] for c in (0, 1, 3, 4, 5)]
        expected = ref.soft_scores(image, rest, temperature)
        assert row[2] == 0
        assert row[:2] + row[3:] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_near_temperature_0_the_best_text_takes_all(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    vectors, labels = ragged(rng, [4, 1, 3], 8)
    crop, best = unit_rows(rng, 1, 1, 8).to(dtype), torch.zeros(3, dtype=torch.float64)
    similarity = vectors.to(dtype) @ crop[0, 0]
    best[labels[similarity.argmax()]] = similarity.max().double()
    found = soft_match(crop, Descriptions.from_rows(vectors.to(dtype), labels, 3), 1e-6)
    assert found[0].tolist() == pytest.approx(best.tolist(), rel=1e-6)


def test_one_text_scores_its_similarity_and_no_text_scores_0() -> None:
    crops = float64([[0.6, 0.8], [-1.0, 0.0]])[:, None]
    texts = Descriptions.from_rows(float64([[1.0, 0.0]]), torch.tensor([1]), 3)
    assert soft_match(crops, texts, 0.01).numpy() == pytest.approx(
        np.array([[0, 0.6, 0], [0, -1, 0]]), abs=1e-15
    )
    none = texts.of(torch.tensor([0, 2]))
    assert soft_match(crops, none, 0.01).tolist() == [[0, 0], [0, 0]]
    assert soft_match(crops[:0], texts, 0.01).shape == (0, 3)
    assert soft_match(crops[:, :0], texts, 0.01).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("crops", [1, 7, 100])
def test_an_image_scores_the_same_in_any_company(
    crops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, in float32. The products are exact, in whatever order a machine adds them."""
    monkeypatch.setitem(matching.SIDES, "cpu", 64)
    rng = np.random.default_rng(6)
    labels = torch.arange(40).repeat_interleave(torch.arange(40) % 5 * 4)
    vectors = torch.tensor(rng.integers(-8, 9, (len(labels), 16)) / 16).float()
    descriptions = Descriptions.from_rows(vectors, labels, 40)
    features = torch.tensor(rng.integers(-8, 9, (23, crops, 16)) / 16).float()
    together = soft_match(features, descriptions, 0.25)
    for i in (0, 8, 22):
        alone = soft_match(features[i : i + 1], descriptions, 0.25)
        assert torch.equal(together[i : i + 1], alone)


class Largest(TorchDispatchMode):
    """Watches how many elements a new tensor has at most."""

    elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not func.is_view:
            self.elements = max(self.elements, made.numel())
        return made


@pytest.mark.slow
def test_similarities_are_held_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing larger is made than two blocks, the scores or a number for each crop."""
    monkeypatch.setitem(matching.SIDES, "cpu", 32)
    rng = np.random.default_rng(7)
    descriptions = Descriptions.from_rows(*ragged(rng, [3, 9] * 30 + [50], 8), 61)
    features = unit_rows(rng, 64, 10, 8)
    with Largest() as largest:
        soft_match(features, descriptions, 0.1)
    assert largest.elements <= max(2 * 32 * 32, 64 * 61, 64 * 10)


def test_soft_matching_worked_by_hand() -> None:
    """One crop on an axis; two classes with one and two texts; temperature 1 / ln 2.

    Weights are as 2, 1 and 1/2. Twice the crop counts twice.
    """
    vectors = float64([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    descriptions = Descriptions.from_rows(vectors, torch.tensor([0, 1, 1]), 2)
    crop = float64([[1.0, 0.0]])[None]
    found = soft_match(crop, descriptions, 1 / math.log(2))
    assert found[0].tolist() == pytest.approx([4 / 7, -1 / 7], abs=1e-12)
    twice = soft_match(crop, descriptions, 1 / math.log(2), float64([[2.0]]))
    assert twice[0].tolist() == pytest.approx([8 / 7, -2 / 7], abs=1e-12)


def test_the_number_of_crops_adds_up() -> None:
    rng = np.random.default_rng(0)
    descriptions = Descriptions.from_rows(*ragged(rng, [3, 1], 8), 2)
    crops = unit_rows(rng, 1, 7, 8)
    parts = [soft_match(crops[:, i : i + 1], descriptions, 0.03) for i in range(7)]
    assert torch.allclose(soft_match(crops, descriptions, 0.03), torch.stack(parts).sum(dim=0))


def test_padding_weighs_nothing_where_all_similarities_are_negative() -> None:
    """A padded text would be the best match of a crop that is unlike all others."""
    vectors = float64([[-1.0, 0.0]] * 4)
    descriptions = Descriptions.from_rows(vectors, torch.tensor([0, 1, 1, 1]), 2)
    crop = float64([[1.0, 0.0]])[None]
    assert soft_match(crop, descriptions, 0.01)[0].tolist() == pytest.approx([-0.25, -0.75])


def test_classes_left_out_do_not_compete() -> None:
    """All texts of the remaining classes are weighed anew, and so are the first of each."""
    rng = np.random.default_rng(4)
    vectors, labels = ragged(rng, [3, 2, 4], 8)
    descriptions = Descriptions.from_rows(vectors, labels, 3)
    crops, texts = unit_rows(rng, 1, 5, 8), by_class(vectors, labels, 3)
    some = soft_match(crops, descriptions.of(torch.tensor([True, False, True])), 0.2)
    expected = ref.soft_scores(crops[0].numpy(), [texts[0], texts[2]], 0.2)
    assert some[0].tolist() == pytest.approx(expected, rel=1e-9)
    few = soft_match(crops, descriptions.first(2), 0.2)
    expected = ref.soft_scores(crops[0].numpy(), [group[:2] for group in texts], 0.2)
    assert few[0].tolist() == pytest.approx(expected, rel=1e-9)


def test_single_precision_is_good_to_six_digits() -> None:
    rng = np.random.default_rng(1)
    vectors, labels = ragged(rng, [50] * 20, 64)
    features = unit_rows(rng, 2, 12, 64)
    exact = soft_match(features, Descriptions.from_rows(vectors, labels, 20), 0.03)
    single = Descriptions.from_rows(vectors.float(), labels, 20)
    found = soft_match(features.float(), single, 0.03)
    assert found.dtype == torch.float32
    assert (found.double() - exact).abs().max() <= 1e-5 * exact.abs().max()


# --- Weights ---------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    seed=st.integers(0, 1000),
    times=st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any),
)
@settings(max_examples=25, deadline=None)
def test_whole_weights_are_repetitions(seed: int, times: list[int]) -> None:
    """Each image with its own: the second has them backwards."""
    rng = np.random.default_rng(seed)
    descriptions = Descriptions.from_rows(*ragged(rng, [2, 3], 8), 2)
    crops = unit_rows(rng, 2, 3, 8)
    weights = torch.tensor([times, times[::-1]])
    found = soft_match(crops, descriptions, 0.1, weights.double())
    for image in range(2):
        repeated = crops[image].repeat_interleave(weights[image], dim=0)[None]
        assert torch.allclose(found[image], soft_match(repeated, descriptions, 0.1), rtol=1e-10)


def test_any_weights_against_plain_loops() -> None:
    rng = np.random.default_rng(5)
    vectors, labels = ragged(rng, [2, 1, 3], 8)
    crops, weights = unit_rows(rng, 2, 4, 8), torch.tensor(rng.random((2, 4)) * 3)
    found = soft_match(crops, Descriptions.from_rows(vectors, labels, 3), 0.1, weights)
    texts = by_class(vectors, labels, 3)
    for image in range(2):
        each = [ref.soft_scores([crop], texts, 0.1) for crop in crops[image].numpy()]
        expected = weights[image].numpy() @ np.array(each)
        assert found[image].tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_views_are_summed_by_their_weights() -> None:
    views = float64([[1.0, 2.0], [10.0, 20.0]])[None]
    assert matching.mean_view(views).tolist() == [[11.0, 22.0]]
    assert matching.mean_view(views, float64([[0.5, 2.0]])).tolist() == [[20.5, 41.0]]


# --- What is refused --------------------------------------------------------------------------

TEXTS = Descriptions.from_rows(torch.eye(3, 4), torch.tensor([0, 1, 1]), 2)
CROPS = torch.eye(4)[None]
CALLS: dict[str, Callable[[], Any]] = {
    "temperature 0.0": lambda: soft_match(CROPS, TEXTS, 0.0),
    "features of shape (4, 4)": lambda: soft_match(CROPS[0], TEXTS, 1.0),
    "features of shape (1, 4, 3)": lambda: soft_match(CROPS[..., :3], TEXTS, 1.0),
    "weights of shape (1, 3)": lambda: soft_match(CROPS, TEXTS, 1.0, torch.ones(1, 3)),
    "one label per row, from 0 to 1": lambda: Descriptions.from_rows(
        torch.eye(2), torch.tensor([0, 2]), 2
    ),
}


@pytest.mark.parametrize("message", list(CALLS))
def test_what_has_no_meaning_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CALLS[message]()
