"""Boxes of pixels and square windows of tokens: the released rules, worked by hand and restated."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.kernels import geometry
from tests.helpers.cropped import WIDTHS
from tests.helpers.goodness import DRAWS, assert_even, uniform_rows
from tests.reference import formulas as ref

# --- Square windows of tokens ----------------------------------------------------------------


def windows_at(token: int, sizes: list[int], grid: int) -> list[list[int]]:
    """Around the middle of a token, one per size."""
    row, column = divmod(token, grid)
    places = torch.tensor([[column + 0.5, row + 0.5]] * len(sizes), dtype=torch.float64)
    found: list[list[int]] = geometry.square_windows(places, torch.tensor(sizes), grid).tolist()
    return found


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


def test_any_place_in_a_token_gives_its_window() -> None:
    """Up to the far edges of the grid, which belong to the last row and column."""
    places = torch.tensor([[2.0, 5.0], [2.999, 5.01], [7.0, 0.0], [6.5, 7.0]], dtype=torch.float64)
    found = geometry.square_windows(places, torch.tensor([3, 3, 3, 3]), 7)
    assert found.tolist() == [[1, 4, 4, 7], [1, 4, 4, 7], [5, 0, 7, 2], [5, 5, 7, 7]]


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


# --- Boxes around patches --------------------------------------------------------------------


def centers(patches: list[int], grid: int, width: int, height: int) -> list[list[int]]:
    found = geometry.patch_centers(torch.tensor(patches), grid, width, height)
    assert found.dtype == torch.int64
    rows: list[list[int]] = found.tolist()
    return rows


def box_of(patch: int, size: tuple[int, int], image: tuple[int, int], grid: int) -> list[int]:
    around = geometry.patch_centers(torch.tensor([patch]), grid, *image)
    (box,) = geometry.raw_boxes(around, torch.tensor([size]), *image).tolist()
    return [int(end) for end in box]


def test_patch_centres_worked_by_hand() -> None:
    """500 x 375 on 14 x 14: patches are 35 x 26 and column 13 starts at floor(464.28)."""
    found = centers([0, 13, 14, 7 * 14 + 6, 195], 14, 500, 375)
    assert found == [[17, 13], [481, 13], [17, 39], [231, 200], [481, 361]]


def test_patch_centres_round_as_released() -> None:
    """7 * 16 * (122 / 224) is just below 61 in floating point, so column 7 starts at 60."""
    assert centers([7], 14, 122, 122) == [[64, 4]]


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
@settings(max_examples=300, deadline=None)
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
    end = min(start + int(16 * (length / (grid * 16))), length)
    centre = (start + end) // 2
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


# --- Squares anywhere ------------------------------------------------------------------------


def squares(sides: list[int], places: list[list[float]], width: int, height: int) -> Tensor:
    where = torch.tensor(places, dtype=torch.float64)
    return geometry.square_boxes(torch.tensor(sides), where, width, height)


def test_squares_worked_by_hand() -> None:
    """A side of 40 in 100 x 50 has 61 places across and 11 down: the first, one inside, the last.

    0.49 * 61 = 29.89 and 0.3 * 11 = 3.3; no side is less than a pixel.
    """
    last = float(np.nextafter(1.0, 0.0))
    found = squares([40] * 3, [[0.0, 0.0], [0.49, 0.3], [last, last]], 100, 50)
    assert found.tolist() == [[0, 0, 40, 40], [29, 3, 69, 43], [60, 10, 100, 50]]
    assert squares([50, 0], [[0.999, 0.999]] * 2, 100, 50).tolist() == [
        [50, 0, 100, 50],
        [99, 49, 100, 50],
    ]


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    share=st.floats(0, 1),
    place=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
)
@settings(max_examples=200, deadline=None)
def test_squares_lie_in_the_image(
    width: int, height: int, share: float, place: tuple[float, float]
) -> None:
    side = int(share * min(width, height))
    ((left, top, right, bottom),) = squares([side], [list(place)], width, height).tolist()
    assert right - left == bottom - top == max(1, side)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_squares_are_as_likely_everywhere() -> None:
    """All 9 x 4 places of a side of 12 in 20 x 15."""
    places = uniform_rows("places")[:, :2]
    sides = torch.full((DRAWS,), 12)
    left, top, right, bottom = geometry.square_boxes(sides, places, 20, 15).unbind(dim=1)
    assert (right - left == 12).all()
    assert (bottom - top == 12).all()
    assert_even(top * 9 + left, 9 * 4)
