"""Sides, shares, boxes and squares that are drawn: evenly, and as the released rules have them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from pipeline.kernels import draws, sampling
from tests.helpers.goodness import (
    assert_even,
    assert_fits,
    assert_independent,
    assert_uniform,
    layered_rows,
    uniform_rows,
)


def drawn_shares(rule: Any) -> torch.Tensor:
    """Of an image of 500 x 375, from half to nine tenths."""
    sizes = (500, 375)
    ranges = [draws.share_range(size, 0.5, 0.9, rule) for size in sizes]
    numbers = sampling.within(layered_rows("shares")[:, :, 1:3], *zip(*ranges, strict=True))
    pairs = zip(numbers.unbind(dim=1), sizes, strict=True)
    return torch.stack([draws.crop_share(x, size, 0.5, 0.9, rule) for x, size in pairs], dim=1)


def test_shares_are_even_or_of_whole_pixels() -> None:
    shares = drawn_shares("ratio")
    assert_uniform(shares[:, 0], 0.5, 0.9)
    assert_uniform(shares[:, 1], 0.5, 0.9)
    pixels = drawn_shares("integer") * torch.tensor([500.0, 375.0])
    assert (pixels - pixels.round()).abs().max() < 1e-9
    assert_even(pixels[:, 0].round().long() - 250, 201)
    assert_even(pixels[:, 1].round().long() - 187, 151)


@pytest.mark.parametrize("size", [7, 225, 1000, 2999])
def test_whole_pixels_survive_as_shares(size: int) -> None:
    """Every side of an image, as a box in its middle."""
    sides = torch.arange(1, size + 1)
    shares = torch.stack([sides / torch.tensor(float(size)).double()] * 2, dim=-1)
    patch = torch.zeros_like(sides)
    left, top, right, bottom = draws.crop_boxes(patch, shares, 1, size, size).unbind(dim=1)
    assert torch.equal(right - left, (sides // 2 * 2).clamp(min=1))
    assert torch.equal(bottom - top, right - left)


# --- Squares ---------------------------------------------------------------------------------


def square_chances(short: int, alpha: float, beta: float) -> list[float]:
    """Of each side int(u * short), u uniform on [alpha, beta)."""
    low, high = alpha * short, beta * short
    overlaps = [min(high, side + 1) - max(low, side) for side in range(math.ceil(high))]
    return [max(0.0, overlap) / (high - low) for overlap in overlaps]


@pytest.mark.parametrize(("width", "height"), [(53, 37), (37, 90)])
def test_sides_of_squares_have_the_released_distribution(width: int, height: int) -> None:
    """Of the shorter side, 37: from 18.5 to 33.3, so that 18 is half as likely as 19."""
    boxes = draws.square_crops(uniform_rows("squares")[:, :3], width, height, 0.5, 0.9)
    left, top, right, bottom = boxes.unbind(dim=1)
    assert (right - left == bottom - top).all()
    assert_fits(right - left, square_chances(37, 0.5, 0.9))


def test_squares_are_as_likely_everywhere_whatever_their_side() -> None:
    """Whole places are spread over their unit, which leaves uniforms if they are even."""
    boxes = draws.square_crops(uniform_rows("places")[:, :3], 53, 37, 0.5, 0.9)
    spread = uniform_rows("spread")
    shares = []
    for axis, size in enumerate((53, 37)):
        first, last = boxes[:, axis], boxes[:, axis + 2]
        assert int(first.min()) == 0
        assert int(last.max()) == size
        shares.append((first + spread[:, axis]) / (size - (last - first) + 1))
        assert_uniform(shares[-1], 0, 1)
    sides = boxes[:, 2] - boxes[:, 0]
    across, down = ((share * 8).long() for share in shares)
    for one, other in ((across, down), (across, sides), (down, sides)):
        assert_independent(one, other)


def test_a_whole_square_fills_the_shorter_side() -> None:
    boxes = draws.square_crops(uniform_rows("whole", 100)[:, :3], 50, 30, 1.0, 1.0)
    assert boxes[:, 1::2].unique(dim=0).tolist() == [[0, 30]]
    assert int((boxes[:, 2] - boxes[:, 0]).unique()) == 30


@pytest.mark.parametrize("message", ["unknown rule 'whole'"])
def test_what_has_no_meaning_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        draws.share_range(5, 0.5, 0.9, "whole")  # type: ignore[arg-type]


# --- Resized crops ----------------------------------------------------------------------------


class Numbers:
    """Stands in for torchvision's random numbers: those of one row, an attempt after the other."""

    def __init__(self, row: torch.Tensor) -> None:
        self.attempts = iter(row[:, :4].tolist())
        self.left: list[float] = []

    def uniform(self, tensor: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
        """The area of the next attempt, then its ratio."""
        if len(self.left) != 3:
            self.left = next(self.attempts)
        u, *self.left = self.left
        return torch.tensor([float(low) + u * (float(high) - float(low))]).double()

    def whole(self, low: int, high: int, size: Any) -> torch.Tensor:
        """The top of the box, then its left end."""
        return torch.tensor([low + math.floor(self.left.pop() * (high - low))])


@pytest.mark.parametrize("size", [(500, 375), (61, 200), (1000, 40), (3, 300), (1, 1)])
def test_resized_crops_are_torchvision_s_of_the_same_numbers(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in images that are so long that few boxes or none fit."""
    rows, picture = layered_rows("augmented")[:40], Image.new("RGB", size)
    found = draws.augmented_crops(rows, *size)
    for row, box in zip(rows, found[:, :4].tolist(), strict=True):
        numbers = Numbers(row)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "uniform_", lambda *given, n=numbers: n.uniform(*given))
            patch.setattr(torch, "randint", numbers.whole)
            top, left, height, width = RandomResizedCrop.get_params(
                picture, [0.08, 1.0], [3 / 4, 4 / 3]
            )
        assert box == [left, top, left + width, top + height]


def test_half_of_the_resized_crops_are_flipped() -> None:
    rows = layered_rows("augmented")
    drawn = draws.augmented_crops(rows, 80, 60)
    assert_even(drawn[:, 4], 2)
    shares = (drawn[:, 2] - drawn[:, 0]) * (drawn[:, 3] - drawn[:, 1]) / (80 * 60)
    assert shares.min() > 0.07
    assert shares.max() > 0.9
