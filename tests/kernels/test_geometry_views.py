"""What CLIP sees of an image, against open_clip's own preprocessing run on pixels."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from pipeline.kernels.geometry import clip_view, token_places

SIZES = st.integers(20, 700)
MODES = ["shortest", "longest", "squash"]


def steps(side: int, mode: str) -> tuple[Any, Any]:
    """Resizing, and what cuts or pads, if anything does."""
    kept = image_transform(side, is_train=False, resize_mode=mode).transforms[:-3]
    return kept[0], kept[1] if len(kept) > 1 else None


def coordinates(width: int, height: int) -> Tensor:
    """A picture (2, height, width) whose pixels say their own column and row, from 1 on."""
    columns = torch.arange(1, width + 1).expand(height, width)
    rows = torch.arange(1, height + 1)[:, None].expand(height, width)
    return torch.stack([columns, rows])


def seen_from(seen: Tensor) -> tuple[int, int]:
    """Column and row of the resized image at the view's corner; padding is 0."""
    places = []
    for line in (seen[0].amax(dim=0), seen[1].amax(dim=1)):
        first = int(line.nonzero()[0])
        places.append(int(line[first]) - 1 - first)
    return places[0], places[1]


@pytest.mark.parametrize("mode", MODES)
@given(width=SIZES, height=SIZES, side=st.sampled_from([32, 63, 224]))
@example(width=500, height=375, side=224)
@example(width=375, height=1000, side=224)
@example(width=640, height=427, side=224)
@settings(max_examples=60, deadline=None)
def test_sizes_and_offsets_are_those_of_open_clip(
    mode: str, width: int, height: int, side: int
) -> None:
    resize, cut = steps(side, mode)
    view = clip_view(width, height, side, mode)
    assert resize(Image.new("L", (width, height))).size == view.lengths
    picture = coordinates(*view.lengths)
    seen = picture if cut is None else cut(picture)
    assert seen.shape == (2, side, side)
    assert view.side == side
    assert view.offsets == seen_from(seen)


@given(width=SIZES, height=SIZES)
@settings(max_examples=40, deadline=None)
def test_shortest_is_what_torchvision_does(width: int, height: int) -> None:
    """As the released code has it."""
    view = clip_view(width, height, 63)
    resized = Resize(63, InterpolationMode.BICUBIC)(Image.new("L", (width, height)))
    assert resized.size == view.lengths
    assert seen_from(CenterCrop(63)(coordinates(*resized.size))) == view.offsets


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(320, 224), (224, 320), (256, 256), (224, 560)])
def test_a_lit_patch_is_seen_where_its_place_is(mode: str, size: tuple[int, int]) -> None:
    """Its centre of light after CLIP's preprocessing, in tokens, for every patch wholly seen."""
    width, height = size
    view = clip_view(width, height, 112, mode)
    transform = image_transform(112, is_train=False, resize_mode=mode, mean=(0,) * 3, std=(1,) * 3)
    places = token_places(torch.arange(64), 8, 7, view, "exact")
    margin = torch.tensor(view.lengths) * 7 / 112 / 16 + 0.2
    checked = 0
    for patch, place in enumerate(places):
        if not ((place > margin) & (place < 7 - margin)).all():
            continue
        row, column = divmod(patch, 8)
        picture = Image.new("RGB", size)
        lit = (column * width // 8, row * height // 8)
        picture.paste((255, 255, 255), (*lit, lit[0] + width // 8, lit[1] + height // 8))
        assert torch.allclose(centre_of_light(transform(picture)), place, atol=0.04)
        checked += 1
    assert checked > 3


def centre_of_light(seen: Tensor) -> Tensor:
    """In tokens of 16 pixels: (3, 112, 112) to (2,)."""
    light = seen[0].double()
    middles = torch.arange(112, dtype=torch.float64) + 0.5
    across = (light.sum(dim=0) * middles).sum()
    down = (light.sum(dim=1) * middles).sum()
    return torch.stack([across, down]) / light.sum() / 16


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("unknown mode 'crop'")):
        clip_view(5, 5, 4, "crop")
