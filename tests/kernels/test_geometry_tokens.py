"""From an image to CLIP's tokens: patches, shares and boxes under each view, worked by hand.

500 x 375 at side 224 is resized to 298 x 224 (298.67 is cut), of which columns 37 to 260 are seen;
375 x 1000 to 224 x 597, of which rows 186 to 409 are seen (half of 373, rounded to even).
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.kernels import geometry
from pipeline.kernels.geometry import View, clip_view, whole_view

LANDSCAPE, PORTRAIT = (500, 375), (375, 1000)


def test_views_worked_by_hand() -> None:
    assert whole_view(224) == View((224, 224), (0, 0), 224)
    assert clip_view(*LANDSCAPE, 224) == View((298, 224), (37, 0), 224)
    assert clip_view(*PORTRAIT, 224) == View((224, 597), (0, 186), 224)


# --- Patches ---------------------------------------------------------------------------------

INTO_7 = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
INTO_14 = list(range(14))
INTO_16 = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]
NEAREST_16 = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15]

WHOLE = {
    ("corner", 7): INTO_7,
    ("corner", 14): INTO_14,
    ("corner", 16): INTO_16,
    ("nearest", 7): INTO_7,
    ("nearest", 14): INTO_14,
    ("nearest", 16): NEAREST_16,
}
"""Token of each of 14 patches along a side."""

ACROSS = {
    ("corner", 7): [0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 6],
    ("corner", 14): [0, 0, 0, 1, 3, 4, 5, 7, 8, 9, 10, 12, 13, 13],
    ("corner", 16): [0, 0, 0, 1, 3, 4, 6, 8, 9, 11, 12, 14, 15, 15],
    ("nearest", 7): [0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6, 6],
    ("nearest", 14): [0, 0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 13],
    ("nearest", 16): [0, 0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 15, 15],
}
"""Columns of 500 x 375. Patch i starts at 298 i / 14 - 37: from -37 on in steps of 21.29, so that
i = 0 and 1 start left of the view and i = 13 right of it."""

DOWN = {
    ("corner", 7): [0, 0, 0, 0, 0, 0, 2, 3, 4, 6, 6, 6, 6, 6],
    ("corner", 14): [0, 0, 0, 0, 0, 1, 4, 7, 9, 12, 13, 13, 13, 13],
    ("corner", 16): [0, 0, 0, 0, 0, 1, 4, 8, 11, 14, 15, 15, 15, 15],
    ("nearest", 7): [0, 0, 0, 0, 0, 1, 2, 4, 5, 6, 6, 6, 6, 6],
    ("nearest", 14): [0, 0, 0, 0, 0, 3, 5, 8, 11, 13, 13, 13, 13, 13],
    ("nearest", 16): [0, 0, 0, 0, 0, 3, 6, 9, 12, 15, 15, 15, 15, 15],
}
"""Rows of 375 x 1000. Patch i starts at 597 i / 14 - 186: i = 4 at -15.43, 5 at 27.21, 9 at 197.79,
10 at 240.43."""


def all_places(target: int, view: View, rule: str) -> Tensor:
    """Of all 14 x 14 patches."""
    return geometry.token_places(torch.arange(196), 14, target, view, rule)


@pytest.mark.parametrize(("rule", "target"), WHOLE)
def test_patches_become_tokens(rule: str, target: int) -> None:
    def check(view: View, columns: list[int], rows: list[int]) -> None:
        places = all_places(target, view, rule)
        assert places.dtype == torch.float64
        assert places.tolist() == [[c + 0.5, r + 0.5] for r in rows for c in columns]
        tokens = geometry.tokens_at(places, target)
        assert tokens.tolist() == [r * target + c for r in rows for c in columns]

    whole = WHOLE[rule, target]
    check(whole_view(target), whole, whole)
    check(whole_view(224), whole, whole)
    check(clip_view(*LANDSCAPE, 224), ACROSS[rule, target], whole)
    check(clip_view(*PORTRAIT, 224), whole, DOWN[rule, target])


def test_the_released_map_to_16_never_yields_7_or_15() -> None:
    tokens = geometry.tokens_at(all_places(16, whole_view(16), "corner"), 16)
    assert {7, 15}.isdisjoint((tokens // 16).tolist())
    assert {7, 15}.isdisjoint((tokens % 16).tolist())


@pytest.mark.parametrize(("target", "step"), [(7, "1/2"), (14, "1"), (16, "8/7")])
def test_exact_places_of_the_whole_image_are_evenly_spaced(target: int, step: str) -> None:
    axis = [float((i + Fraction(1, 2)) * Fraction(step)) for i in range(14)]
    found = all_places(target, whole_view(224), "exact")
    assert found.tolist() == [[x, y] for y in axis for x in axis]


def test_exact_places_seen_by_clip() -> None:
    """On 14 tokens of 16 pixels. Patch i's centre is at (2 i + 1) 298 / 28 - 37 across, which is
    ((2 i + 1) 149 - 518) / 224 tokens, and at ((2 i + 1) 597 - 5208) / 448 tokens down."""
    middle = [227, 525, 823, 1121, 1419, 1717, 2015, 2313, 2611, 2909]
    across = [0.0, 0.0, *(n / 224 for n in middle), 14.0, 14.0]
    down = [0.0] * 4 + [n / 448 for n in (165, 1359, 2553, 3747, 4941, 6135)] + [14.0] * 4
    plain = [i + 0.5 for i in range(14)]
    landscape = all_places(14, clip_view(*LANDSCAPE, 224), "exact")
    portrait = all_places(14, clip_view(*PORTRAIT, 224), "exact")
    assert landscape.tolist() == [[x, y] for y in plain for x in across]
    assert portrait.tolist() == [[x, y] for y in down for x in plain]


def test_tokens_hold_their_places() -> None:
    """By rows; the far edge belongs to the last token."""
    places = torch.tensor([[0.0, 0.0], [2.99, 1.0], [7.0, 3.0], [0.5, 7.0]], dtype=torch.float64)
    assert geometry.tokens_at(places, 7).tolist() == [0, 9, 27, 42]


# --- Windows of a crop's share ---------------------------------------------------------------


def ratio_window(
    place: tuple[float, float], ratios: tuple[float, float], grid: int, view: View
) -> list[int]:
    where, shares = torch.tensor([[place], [ratios]], dtype=torch.float64)
    (window,) = geometry.ratio_windows(where, shares, grid, view).tolist()
    return [int(end) for end in window]


def test_shares_of_the_whole_image() -> None:
    """Half of 14 tokens is 7, three quarters are 10.5; ends at half a token are rounded up."""
    view = whole_view(14)
    assert ratio_window((6.5, 7.5), (0.5, 0.75), 14, view) == [3, 2, 10, 13]
    assert ratio_window((6.0, 6.75), (0.5, 0.5), 14, view) == [3, 3, 10, 10]
    assert ratio_window((0.5, 13.5), (0.5, 0.25), 14, view) == [0, 12, 4, 14]
    assert ratio_window((3.5, 3.5), (1.0, 0.5), 7, whole_view(224)) == [0, 2, 7, 5]


def test_shares_grow_with_what_the_view_leaves_out() -> None:
    """Half of 298 pixels is 9.3125 tokens of 16, four fifths of 597 are 29.85."""
    across, down = clip_view(*LANDSCAPE, 224), clip_view(*PORTRAIT, 224)
    assert ratio_window((6.5, 6.5), (0.5, 0.5), 14, across) == [2, 3, 11, 10]
    assert ratio_window((14.0, 0.0), (0.5, 0.5), 14, across) == [9, 0, 14, 4]
    assert ratio_window((0.5, 6.5), (0.5, 0.8), 14, down) == [0, 0, 4, 14]


def test_shares_of_a_padded_image_are_smaller() -> None:
    """500 x 250 fills 7 of 14 rows: half of its height is 3.5 tokens."""
    padded = clip_view(500, 250, 224, "longest")
    assert padded == View((224, 112), (0, -56), 224)
    assert ratio_window((7.0, 7.0), (0.5, 0.5), 14, padded) == [4, 5, 11, 9]


def test_a_small_share_keeps_one_token() -> None:
    view = whole_view(14)
    assert ratio_window((6.5, 3.5), (0.01, 0.01), 14, view) == [6, 3, 7, 4]
    assert ratio_window((14.0, 0.0), (0.01, 0.01), 14, view) == [13, 0, 14, 1]


# --- Windows that boxes cover ----------------------------------------------------------------


def box_window(box: list[int], image: tuple[int, int], grid: int, view: View) -> list[int]:
    (window,) = geometry.box_windows(torch.tensor([box]), *image, grid, view).tolist()
    return [int(end) for end in window]


def test_boxes_in_the_whole_image() -> None:
    """81 * 14 / 500 = 2.27, 100 * 14 / 375 = 3.73, 381 * 14 / 500 = 10.67, 300 * 14 / 375 = 11.2;
    on 28 pixels an end at an odd one is at half a token, which is rounded up."""
    assert box_window([81, 100, 381, 300], LANDSCAPE, 14, whole_view(224)) == [2, 4, 11, 11]
    assert box_window([1, 3, 5, 28], (28, 28), 14, whole_view(14)) == [1, 2, 3, 14]


def test_boxes_seen_by_clip() -> None:
    """81 and 381 of 500 become 48.28 and 227.08 of 298, less 37: 0.70 and 11.88 tokens of 16."""
    view = clip_view(*LANDSCAPE, 224)
    assert box_window([81, 100, 381, 300], LANDSCAPE, 14, view) == [1, 4, 12, 11]
    assert box_window([0, 0, 142, 106], LANDSCAPE, 14, view) == [0, 0, 3, 4]
    assert box_window([256, 193, 500, 375], LANDSCAPE, 14, view) == [7, 7, 14, 14]


def test_boxes_outside_the_view_keep_the_nearest_tokens() -> None:
    """Rows 0 to 250 and 800 to 1000 of 1000 lie above and below what is seen of 375 x 1000."""
    view = clip_view(*PORTRAIT, 224)
    assert box_window([0, 0, 375, 250], PORTRAIT, 14, view) == [0, 0, 14, 1]
    assert box_window([0, 800, 100, 1000], PORTRAIT, 14, view) == [0, 13, 4, 14]


def test_boxes_in_a_padded_image() -> None:
    """500 x 250 lies on rows 3.5 to 10.5 of 14; its upper half ends at row 7."""
    view = clip_view(500, 250, 224, "longest")
    assert box_window([0, 0, 500, 250], (500, 250), 14, view) == [0, 4, 14, 11]
    assert box_window([250, 0, 500, 125], (500, 250), 14, view) == [7, 4, 14, 7]


def test_less_than_half_a_token_keeps_the_token_it_lies_in() -> None:
    """Tokens 3.64 to 3.92 round to 4 at both ends; they lie in token 3."""
    assert box_window([26, 26, 28, 28], (100, 100), 14, whole_view(14)) == [3, 3, 4, 4]
    assert ratio_window((3.75, 3.75), (0.02, 0.02), 14, whole_view(14)) == [3, 3, 4, 4]


# --- Any image -------------------------------------------------------------------------------

IMAGES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
MODES = st.sampled_from(["shortest", "longest", "squash"])


def rounded(first: Fraction, last: Fraction, grid: int) -> tuple[int, int]:
    """Whole tokens, half up, clipped; where none is left, the token at the middle."""
    start, end = (min(max(floor(at + Fraction(1, 2)), 0), grid) for at in (first, last))
    if start >= end:
        start = min(max(floor((first + last) / 2), 0), grid - 1)
    return start, max(end, start + 1)


@pytest.mark.slow
@given(image=IMAGES, mode=MODES, grid=st.sampled_from([7, 14, 16]), data=st.data())
@settings(max_examples=300, deadline=None)
def test_box_windows_in_exact_fractions(
    image: tuple[int, int], mode: str, grid: int, data: st.DataObject
) -> None:
    view = clip_view(*image, 224, mode)
    box, expected = [0] * 4, [0] * 4
    for axis, size in enumerate(image):
        span = data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))
        box[axis::2] = sorted(span)
        resized = [Fraction(end * view.lengths[axis], size) for end in sorted(span)]
        tokens = [(end - view.offsets[axis]) * Fraction(grid, 224) for end in resized]
        expected[axis::2] = rounded(tokens[0], tokens[1], grid)
    assert box_window(box, image, grid, view) == expected


@given(image=IMAGES, grid=st.integers(1, 40), side=st.integers(1, 400))
def test_the_whole_box_is_the_whole_grid(image: tuple[int, int], grid: int, side: int) -> None:
    for view in (whole_view(side), clip_view(*image, side), clip_view(*image, side, "squash")):
        assert box_window([0, 0, *image], image, grid, view) == [0, 0, grid, grid]


@given(image=IMAGES, mode=MODES, grid=st.sampled_from([7, 14]), data=st.data())
@settings(max_examples=200, deadline=None)
def test_ratio_windows_in_exact_fractions(
    image: tuple[int, int], mode: str, grid: int, data: st.DataObject
) -> None:
    """Places and shares are binary fractions, of which the kernel's doubles lose nothing."""
    view = clip_view(*image, 224, mode)
    place = [data.draw(st.integers(0, 64 * grid)) / 64 for _ in image]
    share = [data.draw(st.integers(1, 64)) / 64 for _ in image]
    expected = [0] * 4
    for axis in range(2):
        size = Fraction(share[axis]) * view.lengths[axis] * Fraction(grid, 224)
        centre = Fraction(place[axis])
        expected[axis::2] = rounded(centre - size / 2, centre + size / 2, grid)
    found = ratio_window((place[0], place[1]), (share[0], share[1]), grid, view)
    assert found == expected
    assert 0 <= found[0] < found[2] <= grid
    assert 0 <= found[1] < found[3] <= grid


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("unknown rule 'near'")):
        geometry.token_places(torch.tensor([0]), 2, 2, geometry.whole_view(2), "near")
