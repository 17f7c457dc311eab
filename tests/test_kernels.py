"""Pure kernels against tables worked by hand, literal restatements and exact probabilities.

Nothing here reads a file or runs a model. Draws are reproducible, so the goodness-of-fit tests
either always pass or always fail; their level is 1 in a thousand.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from pipeline import geometry, matching, sampling
from pipeline.feature_crops import resize_windows
from pipeline.matching import Descriptions, soft_match
from pipeline.statistics import wilson
from stages.scores import judge
from tests import reference as ref

LEVEL = 1e-3
DRAWS = 200_000


# --- Windows of tokens -----------------------------------------------------------------------

WIDTHS = {
    (7, 0.5): {3: "1/4", 5: "1/2", 7: "1/4"},
    (7, 0.6): {5: "2/3", 7: "1/3"},
    (14, 0.5): {7: "1/6", 9: "1/3", 11: "1/3", 13: "1/6"},
    (14, 0.6): {9: "2/5", 11: "2/5", 13: "1/5"},
    (16, 0.5): {9: "2/7", 11: "2/7", 13: "2/7", 15: "1/7"},
    (16, 0.6): {9: "1/6", 11: "1/3", 13: "1/3", 15: "1/6"},
}


def windows_at(token: int, sizes: list[int], grid: int) -> list[list[int]]:
    tokens = np.full(len(sizes), token)
    return geometry.feature_windows(tokens, np.array(sizes), grid).tolist()


@pytest.mark.parametrize(("grid", "alpha"), WIDTHS)
def test_window_widths_have_the_released_distribution(grid: int, alpha: float) -> None:
    """Every size that can be drawn, once each, in a grid too wide to clip anything."""
    low, high = geometry.window_bounds(grid, alpha, 0.9)
    sizes = list(range(low, high + 1))
    wide = 101
    found = windows_at(50 * wide + 50, sizes, wide)
    widths = Counter(right - left for left, _, right, _ in found)
    assert widths == Counter(bottom - top for _, top, _, bottom in found)
    shares = {width: Fraction(count, len(sizes)) for width, count in widths.items()}
    assert shares == {width: Fraction(share) for width, share in WIDTHS[grid, alpha].items()}


def test_a_single_size_is_widened_by_one() -> None:
    assert geometry.window_bounds(14, 0.5, 0.5) == (7, 8)
    assert geometry.window_bounds(14, 0.5, 0.9) == (7, 12)


def test_windows_are_clipped_not_moved() -> None:
    """Grid of 14: size 8 reaches four tokens to either side; left, top, right, bottom."""
    corner, centre, right, bottom = 0, 7 * 14 + 6, 5 * 14 + 13, 12 * 14 + 2
    assert windows_at(corner, [8], 14) == [[0, 0, 5, 5]]
    assert windows_at(centre, [8], 14) == [[2, 3, 11, 12]]
    assert windows_at(right, [8], 14) == [[9, 1, 14, 10]]
    assert windows_at(bottom, [8], 14) == [[0, 8, 7, 14]]
    assert windows_at(centre, [0, 1, 2, 3, 29], 14) == [
        [6, 7, 7, 8],
        [6, 7, 7, 8],
        [5, 6, 8, 9],
        [5, 6, 8, 9],
        [0, 0, 14, 14],
    ]


@given(grid=st.integers(1, 40), size=st.integers(0, 60), data=st.data())
def test_a_window_holds_its_token_and_lies_in_the_grid(
    grid: int, size: int, data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, grid * grid - 1))
    row, column = divmod(token, grid)
    (window,) = windows_at(token, [size], grid)
    expected = [ref.window_span(column, grid, size), ref.window_span(row, grid, size)]
    assert window == [expected[0][0], expected[1][0], expected[0][1], expected[1][1]]
    assert 0 <= window[0] <= column < window[2] <= grid
    assert 0 <= window[1] <= row < window[3] <= grid


@pytest.mark.parametrize(
    ("target", "axis"),
    [
        (7, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
        (14, list(range(14))),
        (16, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]),
    ],
)
def test_patches_map_to_tokens_by_rows_and_columns(target: int, axis: list[int]) -> None:
    tokens = geometry.to_grid(np.arange(14 * 14), 14, target)
    assert tokens.tolist() == [r * target + c for r in axis for c in axis]
    if target == 16:
        rows, columns = np.divmod(tokens, 16)
        assert {7, 15}.isdisjoint(rows)
        assert {7, 15}.isdisjoint(columns)


# --- Boxes of pixels -------------------------------------------------------------------------


def box_of(patch: int, size: tuple[int, int], image: tuple[int, int], grid: int) -> list[int]:
    centers = geometry.patch_centers(np.array([patch]), grid, *image)
    (box,) = geometry.raw_boxes(centers, np.array([size]), *image).tolist()
    return [int(end) for end in box]


def test_patch_centres_worked_by_hand() -> None:
    """500 x 375 on 14 x 14: patches are 35 x 26 and column 13 starts at floor(464.28)."""
    patches = np.array([0, 13, 14, 7 * 14 + 6, 195])
    found = geometry.patch_centers(patches, 14, 500, 375).tolist()
    assert found == [[17, 13], [481, 13], [17, 39], [231, 200], [481, 361]]


def test_patch_centres_round_as_released() -> None:
    """7 * 16 * (122 / 224) is just below 61 in floating point, so column 7 starts at 60."""
    assert geometry.patch_centers(np.array([7]), 14, 122, 122).tolist() == [[64, 4]]


def test_boxes_worked_by_hand() -> None:
    """Centres as above; odd sides lose a pixel, and nothing moves at the border."""
    assert box_of(7 * 14 + 6, (301, 200), (500, 375), 14) == [81, 100, 381, 300]
    assert box_of(0, (250, 187), (500, 375), 14) == [0, 0, 142, 106]
    assert box_of(195, (450, 337), (500, 375), 14) == [256, 193, 500, 375]


@given(
    width=st.integers(1, 6000),
    height=st.integers(1, 6000),
    grid=st.sampled_from([7, 10, 14, 16, 28]),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    data=st.data(),
)
@settings(max_examples=400, deadline=None)
def test_boxes_follow_the_released_rule(
    width: int, height: int, grid: int, shares: tuple[float, float], data: st.DataObject
) -> None:
    patch = data.draw(st.integers(0, grid * grid - 1))
    size = int(shares[0] * width), int(shares[1] * height)
    left, top, right, bottom = box_of(patch, size, (width, height), grid)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    row, column = divmod(patch, grid)
    assert_axis((left, right), column, grid, size[0], width)
    assert_axis((top, bottom), row, grid, size[1], height)


def assert_axis(span: tuple[int, int], index: int, grid: int, side: int, length: int) -> None:
    """The released expressions; where they leave nothing, one pixel is kept at the centre."""
    start = int(index * 16 * (length / (grid * 16)))
    centre = (start + start + int(16 * (length / (grid * 16)))) // 2
    expected = max(0, centre - side // 2), min(length, centre + side // 2)
    if expected[0] < expected[1]:
        assert span == expected
    else:
        assert span[1] - span[0] == 1
        assert span[0] <= centre <= span[1]


def test_sides_are_drawn_between_whole_pixels() -> None:
    assert geometry.size_bounds(500, 0.5, 0.9) == (250, 450)
    assert geometry.size_bounds(375, 0.5, 0.9) == (187, 337)
    assert geometry.size_bounds(1, 0.5, 0.9) == (0, 0)


# --- Draws -----------------------------------------------------------------------------------


def attention_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, 0.02, 196).astype(np.float32)


def uniform_draws(column: int) -> np.ndarray:
    return sampling.uniforms(0, "crops", "0" * 64, 0, DRAWS)[:, column]


def test_top_patches_and_their_probabilities() -> None:
    attention = np.array([0.02, 0.08, 0.05, 0.08, 0.01])
    patches, probabilities = sampling.top_patches(attention, 3, 0.03)
    assert patches.tolist() == [1, 3, 2]
    powers = [math.exp(0.08 / 0.03), math.exp(0.08 / 0.03), math.exp(0.05 / 0.03)]
    assert probabilities == pytest.approx([p / sum(powers) for p in powers], rel=1e-12)


def test_fewer_patches_than_k_are_all_taken() -> None:
    patches, probabilities = sampling.top_patches(np.array([0.1, 0.3]), 20, 0.03)
    assert patches.tolist() == [1, 0]
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_a_low_temperature_overflows_nothing() -> None:
    _, probabilities = sampling.top_patches(np.array([0.9, 0.1, 0.0]), 3, 1e-6)
    assert probabilities.tolist() == [1.0, 0.0, 0.0]


@given(seed=st.integers(0, 1000), k=st.integers(1, 30), tau=st.sampled_from([0.003, 0.03, 1.0]))
@settings(max_examples=40, deadline=None)
def test_probabilities_and_choices_against_plain_sums(seed: int, k: int, tau: float) -> None:
    attention = attention_map(seed)
    expected = ref.patch_probabilities(attention.tolist(), k, tau)
    patches, probabilities = sampling.top_patches(attention, k, tau)
    assert patches.tolist() == list(expected)
    assert probabilities == pytest.approx(list(expected.values()), rel=1e-12)
    u = np.random.default_rng(seed).random(50)
    chosen = sampling.choose(patches, probabilities, u).tolist()
    assert chosen == [ref.drawn(expected, value) for value in u]


def test_patches_are_drawn_with_their_probabilities() -> None:
    patches, probabilities = sampling.top_patches(attention_map(), 20, 0.03)
    drawn = sampling.choose(patches, probabilities, uniform_draws(0))
    counts = [np.count_nonzero(drawn == patch) for patch in patches]
    assert sum(counts) == DRAWS
    powers = np.exp(attention_map()[patches].astype(np.float64) / 0.03)
    fit = stats.chisquare(counts, DRAWS * powers / powers.sum())
    assert fit.pvalue > LEVEL


@pytest.mark.parametrize(("low", "high", "column"), [(7, 12, 4), (250, 450, 1), (0, 1, 2)])
def test_sizes_are_drawn_evenly_ends_included(low: int, high: int, column: int) -> None:
    drawn = sampling.integers(low, high, uniform_draws(column))
    assert (drawn.min(), drawn.max()) == (low, high)
    assert stats.chisquare(np.bincount(drawn - low)).pvalue > LEVEL


def test_the_ends_of_a_stream_stay_inside() -> None:
    """The greatest uniform below 1, where a cumulated distribution may have rounded to less."""
    greatest = np.nextafter(1.0, 0.0)
    ends = np.array([0.0, greatest])
    items = np.arange(10)
    assert sampling.choose(items, np.full(10, 0.1), ends).tolist() == [0, 9]
    assert sampling.choose(items, np.full(10, 0.0999), ends).tolist() == [0, 9]
    assert sampling.integers(0, 5999, ends).tolist() == [0, 5999]
    assert sampling.integers(np.array([3, 4]), np.array([3, 9]), ends).tolist() == [3, 9]


def test_an_item_without_probability_is_never_chosen() -> None:
    items, probabilities = np.array([5, 6, 7]), np.array([0.5, 0.0, 0.5])
    u = np.array([0.0, 0.25, 0.5, 0.75])
    assert sampling.choose(items, probabilities, u).tolist() == [5, 5, 7, 7]


# --- Streams ---------------------------------------------------------------------------------


def test_twenty_rows_begin_sixty() -> None:
    sixty = sampling.uniforms(3, "crops", "a" * 64, 0, 60)
    assert sixty.shape == (60, 8)
    assert sixty.dtype == np.float64
    assert (sixty >= 0).all()
    assert (sixty < 1).all()
    assert np.array_equal(sampling.uniforms(3, "crops", "a" * 64, 0, 20), sixty[:20])


@given(cuts=st.lists(st.integers(0, 60), min_size=0, max_size=4))
@settings(max_examples=25, deadline=None)
def test_ranges_of_rows_join_up(cuts: list[int]) -> None:
    whole = sampling.uniforms(0, "crops", "b" * 64, 0, 60)
    ends = [0, *sorted(cuts), 60]
    parts = [sampling.uniforms(0, "crops", "b" * 64, a, b) for a, b in pairwise(ends)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_streams_are_those_of_the_contract_and_unlike_each_other() -> None:
    def rows(seed: int, stream: str, image: str) -> np.ndarray:
        return sampling.uniforms(seed, stream, image, 0, 40)

    first = rows(0, "crops", "c" * 64)
    assert np.array_equal(first, rows(0, "crops", "c" * 64))
    others = [(1, "crops", "c" * 64), (0, "other", "c" * 64), (0, "crops", "d" * 64)]
    for other in others:
        assert np.intersect1d(first, rows(*other)).size == 0
    correlation = np.corrcoef(sampling.uniforms(0, "crops", "e" * 64, 0, 20_000).T)
    assert np.abs(correlation - np.eye(8)).max() < 0.03


# --- Matching --------------------------------------------------------------------------------


def unit_rows(rng: np.random.Generator, *shape: int) -> Tensor:
    rows = rng.standard_normal(shape)
    return torch.tensor(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def ragged(rng: np.random.Generator, counts: list[int], dim: int) -> tuple[Tensor, Tensor]:
    """Description vectors in shuffled order, and the class of each."""
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return unit_rows(rng, len(labels), dim), torch.tensor(labels)


def by_class(vectors: Tensor, labels: Tensor, classes: int) -> list[list[np.ndarray]]:
    return [list(vectors[labels == label].double().numpy()) for label in range(classes)]


@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 3),
    crops=st.integers(1, 5),
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    temperature=st.sampled_from([0.005, 0.03, 1.0]),
    elements=st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_soft_matching_against_plain_loops(
    seed: int, images: int, crops: int, counts: list[int], temperature: float, elements: int
) -> None:
    """Ragged classes, one class, one crop; and computed in pieces of any size."""
    rng = np.random.default_rng(seed)
    vectors, labels = ragged(rng, counts, 8)
    features = unit_rows(rng, images, crops, 8)
    descriptions = Descriptions.from_rows(vectors, labels, len(counts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "ELEMENTS", elements)
        found = soft_match(features, descriptions, temperature)
    texts = by_class(vectors, labels, len(counts))
    expected = [ref.soft_scores(image.numpy(), texts, temperature) for image in features]
    assert found.shape == (images, len(counts))
    assert found.double().numpy() == pytest.approx(np.array(expected), rel=1e-9, abs=1e-12)


def test_soft_matching_worked_by_hand() -> None:
    """One crop on an axis; two classes with one and two texts; temperature 1 / ln 2."""
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    descriptions = Descriptions.from_rows(vectors, torch.tensor([0, 1, 1]), 2)
    crop = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    found = soft_match(crop, descriptions, 1 / math.log(2))
    assert found[0].tolist() == pytest.approx([4 / 7, -1 / 7], abs=1e-12)


def test_the_number_of_crops_adds_up() -> None:
    rng = np.random.default_rng(0)
    descriptions = Descriptions.from_rows(*ragged(rng, [3, 1], 8), 2)
    crops = unit_rows(rng, 1, 7, 8)
    parts = [soft_match(crops[:, i : i + 1], descriptions, 0.03) for i in range(7)]
    assert torch.allclose(soft_match(crops, descriptions, 0.03), sum(parts), rtol=1e-12)


def test_padding_weighs_nothing_where_all_similarities_are_negative() -> None:
    """A padded text would be the best match of a crop that is unlike all others."""
    vectors = -torch.eye(4, dtype=torch.float64)[[0, 0, 0, 0]]
    descriptions = Descriptions.from_rows(vectors, torch.tensor([0, 1, 1, 1]), 2)
    crop = torch.eye(4, dtype=torch.float64)[None, :1]
    assert soft_match(crop, descriptions, 0.01)[0].tolist() == pytest.approx([-0.25, -0.75])


def test_single_precision_is_good_to_six_digits() -> None:
    rng = np.random.default_rng(1)
    vectors, labels = ragged(rng, [50] * 20, 64)
    features = unit_rows(rng, 2, 12, 64)
    exact = soft_match(features, Descriptions.from_rows(vectors, labels, 20), 0.03)
    single = Descriptions.from_rows(vectors.float(), labels, 20)
    found = soft_match(features.float(), single, 0.03).double()
    assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_class_means_against_numpy(seed: int, counts: list[int]) -> None:
    vectors, labels = ragged(np.random.default_rng(seed), counts, 8)
    found = Descriptions.from_rows(vectors, labels, len(counts)).means().numpy()
    for label, row in enumerate(found):
        mean = vectors[labels == label].numpy().mean(axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), rel=1e-9, abs=1e-12)


# --- Verdicts --------------------------------------------------------------------------------


def verdicts(logits: np.ndarray, labels: list[int]) -> pd.DataFrame:
    images = pd.DataFrame({"image_id": np.arange(len(labels)), "label": labels})
    table: pd.DataFrame = judge("abs", logits.astype(np.float32), images)
    return table


def test_ties_go_to_the_first_class() -> None:
    rows = verdicts(np.array([[1.0, 3.0, 3.0, 2.0]] * 4 + [[0.0] * 4]), [0, 1, 2, 3, 2])
    assert rows["pred"].tolist() == [1, 1, 1, 1, 0]
    assert rows["rank"].tolist() == [4, 1, 2, 3, 3]
    assert rows["correct"].tolist() == [False, True, False, False, False]
    assert rows["margin"].tolist() == [-2.0, 0.0, 0.0, -1.0, 0.0]
    assert [list(top) for top in rows["top5"]] == [[1, 2, 3, 0]] * 4 + [[0, 1, 2, 3]]


@given(data=st.data(), classes=st.integers(2, 9), images=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_verdicts_against_counting(data: st.DataObject, classes: int, images: int) -> None:
    """Few distinct values, so that ties are common."""
    values = st.lists(st.integers(-3, 3), min_size=classes, max_size=classes)
    logits = np.array([data.draw(values) for _ in range(images)], float)
    labels = [data.draw(st.integers(0, classes - 1)) for _ in range(images)]
    for row, scores, label in zip(
        verdicts(logits, labels).itertuples(), logits.tolist(), labels, strict=True
    ):
        order = ref.ranked(scores)
        others = [score for place, score in enumerate(scores) if place != label]
        assert (row.pred, row.rank) == (order[0], ref.rank_of(label, scores))
        assert row.correct == (order[0] == label)
        assert list(row.top5) == order[:5]
        assert row.margin == scores[label] - max(others)


# --- Resizing and intervals ------------------------------------------------------------------


def tokens_of(grid: int, width: int = 3) -> Tensor:
    rng = np.random.default_rng(grid)
    return torch.tensor(rng.standard_normal((1 + grid * grid, width)))


def stretched(tokens: Tensor, window: list[int], grid: int) -> Tensor:
    left, top, right, bottom = window
    image = tokens[1:].T.reshape(1, -1, grid, grid)[:, :, top:bottom, left:right]
    whole = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([tokens[:1], whole[0].flatten(1).T])


@pytest.mark.parametrize("grid", [7, 10, 14, 16])
def test_windows_are_stretched_as_interpolate_does(grid: int) -> None:
    rng = np.random.default_rng(grid)
    spans = [sorted(rng.choice(grid + 1, 2, replace=False)) for _ in range(40)]
    windows = [[a[0], b[0], a[1], b[1]] for a, b in zip(spans[::2], spans[1::2], strict=True)]
    windows += [[0, 0, 1, 1], [grid - 1, 0, grid, grid], windows[0]]
    tokens = tokens_of(grid)
    found = resize_windows(tokens, torch.tensor(np.array(windows, np.int64)))
    expected = torch.stack([stretched(tokens, window, grid) for window in windows])
    assert found.shape == expected.shape
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("grid", [7, 14, 16])
def test_the_full_window_changes_nothing(grid: int) -> None:
    tokens = tokens_of(grid)
    (found,) = resize_windows(tokens, torch.tensor([[0, 0, grid, grid]]))
    assert (found - tokens).abs().max() < 1e-14


def test_a_single_token_fills_the_grid() -> None:
    tokens = tokens_of(7)
    (found,) = resize_windows(tokens, torch.tensor([[5, 2, 6, 3]]))
    assert torch.allclose(found[0], tokens[0], rtol=0, atol=0)
    assert torch.allclose(found[1:], tokens[1 + 2 * 7 + 5].expand(49, -1), rtol=1e-12)


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (7, 20), (480, 480), (61, 5794)])
def test_wilson_against_scipy(successes: int, count: int) -> None:
    expected = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson(successes, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_without_observations_knows_nothing() -> None:
    assert wilson(0, 0) == (0, 1)
