"""Prompts on pixels (Table 5): small images, every pixel worked by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from pipeline.kernels.image_prompts import Box, prompt_box
from pipeline.kernels.prompt_names import RawPrompt

WIDTH, HEIGHT = 6, 4
ALL: list[RawPrompt] = ["crop", "mask", "highlight", "redcircle"]


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Red tells the column, green the row, blue both, none of them 0."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([10 + 20 * columns, 15 + 50 * rows, 1 + columns + 10 * rows], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def prompted(
    prompt: RawPrompt, box: Box, brightness: float = 1.5, thickness: float = 0.01
) -> np.ndarray:
    image = picture()
    found = prompt_box(image, box, prompt, brightness, thickness)
    assert found.mode == "RGB"
    assert image == picture(), "the image itself was changed"
    return np.array(found)


def within(box: Box) -> np.ndarray:
    """Which pixels lie in a box."""
    left, top, right, bottom = box
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    found: np.ndarray = (left <= columns) & (columns < right) & (top <= rows) & (rows < bottom)
    return found


BOXES: list[Box] = [
    (1, 1, 5, 3),
    (0, 0, 2, 3),
    (3, 2, 6, 4),
    (2, 1, 3, 2),
    (5, 3, 6, 4),
    (0, 0, 6, 4),
    (4, 0, 5, 4),
]
"""In the middle, at either border, a pixel, the last one, everything, a line."""


@pytest.mark.parametrize("box", BOXES)
def test_a_crop_is_the_box_alone(box: Box) -> None:
    left, top, right, bottom = box
    expected = np.array(picture())[top:bottom, left:right]
    assert np.array_equal(prompted("crop", box), expected)


@pytest.mark.parametrize("box", BOXES)
def test_a_mask_is_black_around_the_box(box: Box) -> None:
    found, chosen = prompted("mask", box), within(box)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert (found[~chosen] == 0).all()
    assert np.array_equal(found[chosen], np.array(picture())[chosen])


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("brightness", [0.5, 1.0, 1.5, 2.0])
def test_a_highlight_brightens_the_box(box: Box, brightness: float) -> None:
    """Fractions are cut and nothing exceeds 255; around the box nothing changes."""
    found, chosen = prompted("highlight", box, brightness), within(box)
    before = np.array(picture()).astype(int)
    expected = np.minimum(before * round(2 * brightness) // 2, 255)
    assert np.array_equal(found[~chosen], before[~chosen])
    assert np.array_equal(found[chosen], expected[chosen])


def test_a_highlight_worked_by_hand() -> None:
    """Column 5 of row 3 is (110, 165, 36), column 4 is (90, 165, 35)."""
    found = prompted("highlight", (5, 3, 6, 4), 1.75)
    assert found[3, 5].tolist() == [192, 255, 63]
    assert found[3, 4].tolist() == [90, 165, 35]


# --- Circles ---------------------------------------------------------------------------------


def drawn(size: tuple[int, int], box: Box, thickness: float) -> list[str]:
    """Rows of the image: # where it turned red, . where it is what it was."""
    image = picture(*size)
    before = np.array(image)
    after = np.array(prompt_box(image, box, "redcircle", 1.5, thickness))
    assert image == picture(*size), "the image itself was changed"
    red = (after == (255, 0, 0)).all(axis=-1)
    assert np.array_equal(after[~red], before[~red])
    return ["".join("#" if pixel else "." for pixel in row) for row in red]


def test_a_circle_touches_the_sides_of_its_box() -> None:
    assert drawn((9, 7), (2, 1, 7, 6), 0.0) == [
        ".........",
        "...###...",
        "..#...#..",
        "..#...#..",
        "..#...#..",
        "...###...",
        ".........",
    ]


def test_an_ellipse_in_an_oblong_box_at_the_border() -> None:
    assert drawn((8, 6), (2, 2, 8, 6), 0.1) == [
        "........",
        "........",
        "...####.",
        "..#....#",
        "..#....#",
        "...####.",
    ]


@pytest.mark.parametrize(
    ("thickness", "pixels"), [(0.0, 1), (0.02, 1), (0.024, 1), (0.026, 2), (0.05, 3), (0.1, 6)]
)
def test_a_circle_is_as_thick_as_a_share_of_the_shorter_side(thickness: float, pixels: int) -> None:
    """Of 60, rounded: 0, 1.2, 1.44, 1.56, 3 and 6 pixels, one at least."""
    rows = drawn((100, 60), (10, 5, 71, 46), thickness)
    middle = "".join(row[40] for row in rows)
    assert middle == "." * 5 + "#" * pixels + "." * (41 - 2 * pixels) + "#" * pixels + "." * 14
    assert rows[25] == "." * 10 + "#" * pixels + "." * (61 - 2 * pixels) + "#" * pixels + "." * 29


@pytest.mark.parametrize(
    "box", [(0, 0, 100, 60), (0, 0, 30, 20), (70, 40, 100, 60), (3, 7, 40, 60)]
)
def test_a_circle_stays_in_its_box(box: Box) -> None:
    """It reaches all four sides, and neither the corners nor the middle."""
    left, top, right, bottom = box
    rows = drawn((100, 60), box, 0.02)
    red = np.array([[pixel == "#" for pixel in row] for row in rows])
    rows_hit, columns_hit = np.nonzero(red.any(axis=1))[0], np.nonzero(red.any(axis=0))[0]
    assert (rows_hit[0], rows_hit[-1] + 1) == (top, bottom)
    assert (columns_hit[0], columns_hit[-1] + 1) == (left, right)
    assert not red[top : bottom : bottom - top - 1, left : right : right - left - 1].any()
    assert not red[(top + bottom) // 2, (left + right) // 2]


def test_the_smallest_boxes_are_filled() -> None:
    """A pixel, and lines one pixel wide."""
    assert drawn((4, 3), (1, 2, 2, 3), 0.01) == ["....", "....", ".#.."]
    assert drawn((4, 3), (3, 0, 4, 3), 0.01) == ["...#", "...#", "...#"]
    assert drawn((4, 3), (0, 1, 4, 2), 0.01) == ["....", "####", "...."]


def test_any_other_prompt_keeps_the_size_of_the_image() -> None:
    sizes = {prompt: prompted(prompt, (1, 1, 3, 2)).shape[:2] for prompt in ALL}
    assert sizes == {"crop": (1, 2), **dict.fromkeys(ALL[1:], (HEIGHT, WIDTH))}


def test_an_unknown_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("unknown prompt 'blot'")):
        prompt_box(picture(), (0, 0, 2, 2), "blot", 1, 1)  # type: ignore[arg-type]
