"""Crops have exactly the distribution that each setting asks for."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import pytest
import torch

from pipeline.views import draw as cropping
from pipeline.views.config import CropsConfig, TokenGrid
from tests.helpers.cropped import (
    GRIDS,
    IMAGES,
    LANDSCAPE,
    WIDTHS,
    attention_map,
    feature_crops,
    only,
)
from tests.helpers.goodness import (
    assert_fits,
    assert_independent,
    assert_uniform,
    layered_rows,
)

# --- Patches ---------------------------------------------------------------------------------


def chances(k: int, temperature: float) -> list[float]:
    """Of each of 196 patches."""
    attention = attention_map().double()
    least = attention.sort(descending=True).values[k - 1]
    powers = (attention / temperature).exp() * (attention >= least)
    return (powers / powers.sum()).tolist()


def test_patches_of_raw_crops_have_their_probabilities() -> None:
    config = CropsConfig(k=12, temperature=0.05)
    crops = cropping.raw_crops(LANDSCAPE, attention_map(), layered_rows("raw"), config)
    assert_fits(crops[:, 0], chances(12, 0.05))


@pytest.mark.parametrize(("own", "k"), [(None, 12), (5, 5)])
def test_patches_of_feature_crops_have_their_probabilities(own: int | None, k: int) -> None:
    """Of raw crops' top patches, unless feature crops have a number of their own."""
    config = CropsConfig(k=12, temperature=0.05)
    crops = feature_crops(layered_rows("feature"), config=config, k=own)
    assert_fits(crops[:, 0], chances(k, 0.05))


@pytest.mark.slow
def test_independent_draws_are_independent() -> None:
    """Of feature crops from raw crops, and of a crop's patch from its sizes."""
    u, config = layered_rows("both"), CropsConfig(k=4, temperature=1.0)
    raw = cropping.raw_crops(LANDSCAPE, attention_map(), u, config)[:, 0]
    crops = feature_crops(u, config=config)
    assert (raw != crops[:, 0]).any()
    assert_independent(raw, crops[:, 0])
    assert_independent(crops[:, 6] // 6, crops[:, 6] % 6)


# --- Sizes -----------------------------------------------------------------------------------


def box_sides(rule: str, size: int, alpha: str, beta: str) -> list[float]:
    """Chances of each width of an unclipped box: twice the half of a side, rounded down."""
    low, high = Fraction(alpha) * size, Fraction(beta) * size
    found = [Fraction(0)] * (size + 1)
    for side in range(floor(low), floor(high) + 1):
        if rule == "integer":
            found[side // 2 * 2] += Fraction(1, floor(high) - floor(low) + 1)
        else:
            overlap = min(high, Fraction(side + 1)) - max(low, Fraction(side))
            found[side // 2 * 2] += overlap / (high - low)
    return [float(chance) for chance in found]


@pytest.mark.parametrize("rule", ["integer", "ratio"])
@pytest.mark.parametrize("image", IMAGES)
def test_sides_of_boxes_have_their_distribution(rule: Any, image: Any) -> None:
    """Around one patch in the middle, of sides small enough that nothing is clipped."""
    config = CropsConfig(alpha=0.25, beta=0.75, sizes=rule)
    boxes = cropping.raw_crops(image, only(7, 7), layered_rows("sides"), config)[:, 1:]
    wide, high = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    assert_fits(wide, box_sides(rule, image.width, "1/4", "3/4"))
    assert_fits(high, box_sides(rule, image.height, "1/4", "3/4"))
    assert_independent(wide // 40, high // 40)


@pytest.mark.parametrize("grid", GRIDS[::2])
@pytest.mark.parametrize("alpha", [0.5, 0.6])
def test_square_windows_have_the_released_distribution(grid: TokenGrid, alpha: float) -> None:
    """Around a patch in the middle, where none is clipped."""
    config = CropsConfig(alpha=alpha, beta=0.9)
    crops = feature_crops(layered_rows("windows"), grid, config=config, k=1, attention=only(7, 7))
    left, top, right, bottom = crops[:, 2:6].unbind(dim=1)
    assert torch.equal(right - left, bottom - top)
    expected = WIDTHS[grid.tokens, alpha]
    assert_fits(right - left, [float(Fraction(expected.get(width, "0"))) for width in range(17)])


def test_windows_of_shares_have_their_distribution() -> None:
    """A quarter to three quarters of 14 tokens around 7.5: the left end is floor(8 - 7 share), with
    7 share from 1.75 to 5.25."""
    config = CropsConfig(alpha=0.25, beta=0.75, sizes="ratio", k=1)
    u, attention = layered_rows("ratio"), only(7, 7)
    crops = feature_crops(u, config=config, attention=attention, shape="ratio", index="nearest")
    left, top, right, bottom = crops[:, 2:6].unbind(dim=1)
    expected = [0, 0, 1 / 14, 2 / 7, 2 / 7, 2 / 7, 1 / 14]
    assert_fits(8 - left, expected)
    assert_fits(8 - top, expected)
    assert_independent(right, bottom)


# --- Settings that draw alike ----------------------------------------------------------------

ALPHAS = (0.1, 0.3, 0.5, 0.7)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("k", [5, 60])
def test_every_setting_of_a_sweep_has_its_own_distribution(alpha: float, k: int) -> None:
    """Patch, width and height of one stream that all settings share, and no two of them tied."""
    config = CropsConfig(alpha=alpha, k=k, temperature=0.05, sizes="ratio")
    u = layered_rows("sweep")
    patches, rank, sides = cropping._drawn(
        attention_map(), k, config, u[:, :, :3], [(alpha, 0.9)] * 2
    )
    assert_fits(patches[rank], chances(k, 0.05))
    assert_uniform(sides[:, 0], alpha, 0.9)
    assert_uniform(sides[:, 1], alpha, 0.9)
    eighths = ((sides - alpha) / (0.9 - alpha) * 8).long()
    assert_independent(rank, eighths[:, 0])
    assert_independent(eighths[:, 0], eighths[:, 1])
    assert_independent(eighths[:-1, 0], eighths[1:, 0])
