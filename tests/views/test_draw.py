"""Crops of one image that belong together: both branches, numbers of crops, and all windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.kernels import geometry, sampling
from pipeline.views import draw as cropping
from pipeline.views.config import CropsConfig, TokenGrid, WindowSpace
from tests.helpers.cropped import (
    GRIDS,
    IMAGES,
    LANDSCAPE,
    OFFICIAL,
    PORTRAIT,
    attention_map,
    feature_crops,
    only,
)
from tests.helpers.goodness import assert_even, layered_rows


def sides_of(u: torch.Tensor, bounds: list[tuple[int, int, int]]) -> torch.Tensor:
    """Numbers for whole sides from low to high, of 0 to count - 1: columns 1 and 2."""
    low = [first / count for first, _, count in bounds]
    high = [(last + 1) / count for _, last, count in bounds]
    return sampling.within(u[:, :, 1:3], low, high)


# --- Raw and feature crops --------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["square", "ratio", "box"])
@pytest.mark.parametrize("image", IMAGES)
def test_joint_draws_share_patches(shape: str, image: Any) -> None:
    u = layered_rows("joint", 500)
    raw = cropping.raw_crops(image, attention_map(), u, OFFICIAL)
    for grid in GRIDS:
        for k in (None, 5):
            crops = feature_crops(u, grid, image, draws="joint", shape=shape, k=k)
            assert torch.equal(crops[:, 0], raw[:, 0])
        apart = feature_crops(u, grid, image, shape=shape)
        assert (apart[:, 0] != raw[:, 0]).any()


@pytest.mark.parametrize("rule", ["integer", "ratio"])
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("grid", GRIDS)
def test_joint_boxes_are_the_raw_crops(grid: TokenGrid, image: Any, rule: Any) -> None:
    """The tokens of a feature crop are those that the raw crop's own box covers."""
    u, config = layered_rows("joint", 500), CropsConfig(sizes=rule)
    raw = cropping.raw_crops(image, attention_map(), u, config)
    crops = feature_crops(u, grid, image, config, draws="joint", shape="box")
    view = geometry.clip_view(image.width, image.height, grid.pixels, grid.mode)
    boxes = geometry.box_windows(raw[:, 1:], image.width, image.height, grid.tokens, view)
    assert torch.equal(crops[:, 2:6], boxes)
    assert (crops[:, 6] == -1).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_joint_shares_are_those_of_the_raw_crops(grid: TokenGrid) -> None:
    """The window is as wide and high as the raw crop, around the patch itself."""
    u, image = layered_rows("joint", 500), LANDSCAPE
    crops = feature_crops(u, grid, image, draws="joint", shape="ratio", index="exact")
    view = geometry.clip_view(image.width, image.height, grid.pixels, grid.mode)
    places = geometry.token_places(crops[:, 0], 14, grid.tokens, view, "exact")
    shares = cropping._shares(image, sides_of(u, [(250, 450, 501), (187, 337, 376)]), OFFICIAL)
    assert torch.equal(crops[:, 2:6], geometry.ratio_windows(places, shares, grid.tokens, view))
    assert torch.equal(crops[:, 1], geometry.tokens_at(places, grid.tokens))
    assert (crops[:, 6] == -1).all()


# --- Numbers of crops ------------------------------------------------------------------------


def test_twenty_crops_begin_sixty() -> None:
    """And crop i hangs on row i alone."""
    u, attention = layered_rows("crops", 60), attention_map()
    raw = cropping.raw_crops(PORTRAIT, attention, u, OFFICIAL)
    assert torch.equal(cropping.raw_crops(PORTRAIT, attention, u[:20], OFFICIAL), raw[:20])
    assert torch.equal(cropping.raw_crops(PORTRAIT, attention, u.flip(0), OFFICIAL), raw.flip(0))
    for shape in ("square", "ratio", "box"):
        crops = feature_crops(u, image=PORTRAIT, shape=shape)
        assert torch.equal(feature_crops(u[:20], image=PORTRAIT, shape=shape), crops[:20])
        assert torch.equal(feature_crops(u.flip(0), image=PORTRAIT, shape=shape), crops.flip(0))


def test_branches_take_uniforms_of_their_own() -> None:
    """Raw crops the first three of a row, feature crops the next three, unless drawn jointly."""
    u, attention = layered_rows("crops", 60), attention_map()
    others = layered_rows("others", 60)
    mixed = torch.cat([u[..., :3], others[..., 3:]], dim=-1)
    raw = cropping.raw_crops(LANDSCAPE, attention, u, OFFICIAL)
    assert torch.equal(cropping.raw_crops(LANDSCAPE, attention, mixed, OFFICIAL), raw)
    for shape in ("square", "ratio", "box"):
        joint: dict[str, Any] = {"shape": shape, "draws": "joint"}
        assert torch.equal(feature_crops(mixed, **joint), feature_crops(u, **joint))
        apart = torch.cat([others[..., :3], u[..., 3:6], others[..., 6:]], dim=-1)
        assert torch.equal(feature_crops(apart, shape=shape), feature_crops(u, shape=shape))


@pytest.mark.parametrize(("draws", "column"), [("independent", 4), ("joint", 1)])
def test_the_size_of_a_square_comes_second(draws: Any, column: int) -> None:
    """Around one patch: sizes 7 to 12 of 14 tokens, as the fifth or second uniform has it."""
    u = layered_rows("crops", 60)
    crops = feature_crops(u, attention=only(7, 7), draws=draws, config=CropsConfig(k=1))
    sizes = (sampling.within(u[..., column : column + 1], [7 / 16], [13 / 16])[:, 0] * 16).long()
    assert torch.equal(crops[:, 4] - crops[:, 2], 2 * (sizes // 2) + 1)
    assert torch.equal(crops[:, 6], sizes - 7)


# --- All windows -----------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["corner", "nearest", "exact"])
@pytest.mark.parametrize("grid", GRIDS)
def test_an_outcome_is_the_crops_own_window(grid: TokenGrid, index: Any) -> None:
    """Patch, token and window of a crop are the row of all windows that its outcome names."""
    attention = attention_map(3)
    config = CropsConfig(k=9, alpha=0.4, beta=0.9)
    space = WindowSpace(layer=-1, k=9, index=index, alpha=0.4, beta=0.9)
    for image in IMAGES:
        possible = cropping.possible_windows(image, attention, space, grid)
        assert len(possible) == 9 * space.sizes(grid.tokens)
        crops = feature_crops(
            layered_rows("outcomes", 2000), grid, image, config, attention, index=index
        )
        assert torch.equal(possible[crops[:, 6]], crops[:, :6])


def test_all_windows_come_by_rank_and_then_by_size() -> None:
    """Patch 7 * 14 + 7 is seen more than patch 14 + 1; sizes of 14 tokens are 7 to 12."""
    attention = torch.zeros(196)
    attention[7 * 14 + 7], attention[14 + 1] = 0.5, 0.3
    space = WindowSpace(layer=-1, k=2, index="corner", alpha=0.5, beta=0.9)
    rows = cropping.possible_windows(LANDSCAPE, attention, space, GRIDS[2]).tolist()
    halves = [3, 4, 4, 5, 5, 6]
    assert rows[:6] == [[105, 105, 7 - h, 7 - h, 8 + h, 8 + h] for h in halves]
    assert rows[6:] == [[15, 15, 0, 0, 2 + h, 2 + h] for h in halves]


def test_all_windows_are_drawn_and_those_of_one_patch_evenly() -> None:
    u, space = layered_rows("even"), WindowSpace(layer=-1, k=3, index="corner")
    crops = feature_crops(u, k=3)
    sizes = space.sizes(14)
    assert crops[:, 6].unique().tolist() == list(range(3 * sizes))
    assert_even(crops[:, 6] % sizes, sizes)


def test_fewer_patches_than_k_are_all_listed() -> None:
    space = WindowSpace(layer=-1, k=20, index="corner")
    rows = cropping.possible_windows(LANDSCAPE, torch.rand(4), space, GRIDS[0])
    assert len(rows) == 4 * space.sizes(7)
