"""Resizing by integer sums and by matrices: the bytes of Pillow, torchvision and open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

import pipeline
from pipeline.kernels import resize, resize_compiled
from pipeline.kernels.resize import Resizer, planes
from pipeline.kernels.resize_taps import Filter

DEMO = Path(pipeline.__file__).parent / "demo" / "images"
KINDS = [
    (mode, kind) for mode in ("shortest", "longest", "squash") for kind in ("bicubic", "bilinear")
]


def noise(width: int, height: int, levels: int = 256, seed: int = 0) -> Image.Image:
    """Pixels of `levels` values from 0 to 255, evenly drawn."""
    values = np.random.default_rng(seed).integers(0, levels, (height, width, 3))
    return Image.fromarray((values * (255 // (levels - 1))).astype(np.uint8))


def expected(image: Image.Image, boxes: Any, resizer: Resizer) -> np.ndarray:
    """open_clip's own transform of each box, before it becomes a tensor."""
    transform = image_transform(
        resizer.side, False, resize_mode=resizer.mode, interpolation=resizer.filter
    )
    geometry = Compose(
        [step for step in transform.transforms if not isinstance(step, ToTensor | Normalize)]
    )
    crops = [geometry(image.crop(tuple(box))) for box in boxes]
    return np.stack([np.asarray(crop.convert("RGB")).transpose(2, 0, 1) for crop in crops])


def on_torch(resizer: Resizer, image: Tensor, boxes: Any) -> np.ndarray:
    """As on CUDA."""
    return resize._by_products(image, resizer._crops(np.asarray(boxes))).numpy()


def assert_same(image: Image.Image, boxes: Any, resizer: Resizer) -> None:
    wanted = expected(image, boxes, resizer)
    assert np.array_equal(resizer(planes(image), np.array(boxes)).numpy(), wanted)
    assert np.array_equal(on_torch(resizer, planes(image), boxes), wanted)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Image.Image, list[tuple[int, ...]], Resizer]:
    """Images, boxes that are not thinner than `longest` bears, and sides."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    mode, kind = draw(st.sampled_from(KINDS))
    side = draw(st.integers(1, 70))
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append(
            (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
        )
    if mode == "longest":
        boxes = [
            b for b in boxes if min(b[2] - b[0], b[3] - b[1]) * side > max(b[2] - b[0], b[3] - b[1])
        ]
    image = noise(width, height, draw(st.sampled_from([2, 4, 256])), draw(st.integers(0, 99)))
    return image, boxes or [(0, 0, 1, 1)], Resizer(side, mode, kind)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(cases())
def test_any_boxes_have_the_bytes_of_open_clip(
    case: tuple[Image.Image, list[tuple[int, ...]], Resizer],
) -> None:
    assert_same(*case)


@pytest.mark.parametrize(("mode", "kind"), KINDS)
@pytest.mark.parametrize("levels", [2, 256])
def test_noise_at_the_models_side(mode: str, kind: Filter, levels: int) -> None:
    """Two levels only overshoot most and are clipped."""
    boxes = [(0, 0, 400, 300), (13, 7, 237, 231), (100, 0, 260, 300), (0, 50, 400, 210)]
    assert_same(noise(400, 300, levels), boxes, Resizer(224, mode, kind))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (224, 224), (224, 100), (60, 224), (2, 180)])
def test_small_images(size: tuple[int, int]) -> None:
    """Enlarged, and of the model's own side, where Pillow leaves out a pass."""
    for mode in ("shortest", "squash"):
        assert_same(noise(*size), [(0, 0, *size)], Resizer(224, mode))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(4000, 300), (300, 4000), (2100, 2000)])
def test_large_images(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert_same(image, [(0, 0, *size)], Resizer(224))
    assert_same(image, [(0, 0, *size)], Resizer(64, "squash", "bilinear"))


def test_an_image_that_shrinks_mostly_in_height() -> None:
    """Where the order of the axes depends on Pillow's version; both orders differ in bytes."""
    image, resizer = noise(100, 500), Resizer(64, "squash", "bilinear")
    assert_same(image, [(0, 0, 100, 500), (0, 0, 90, 103)], resizer)
    assert_same(image, [(0, 0, 78, 92), (0, 0, 78, 93)], resizer)
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    sideways = resizer(planes(turned), np.array([[0, 0, 500, 100]])).transpose(2, 3)
    same = sideways.equal(resizer(planes(image), np.array([[0, 0, 100, 500]])))
    assert same == resize.COLUMNS_FIRST


def test_halves_are_rounded_up() -> None:
    """Two pixels to one are their mean, which is a half wherever one is even and one odd."""
    values = np.arange(256, dtype=np.uint8)
    pixels = np.stack([values[:-1], values[1:]], axis=1).reshape(1, -1, 1).repeat(3, axis=2)
    boxes = np.array([(2 * i, 0, 2 * i + 2, 1) for i in range(255)])
    found = Resizer(1, "squash", "bilinear")(planes(pixels), boxes)
    assert found[:, 0, 0, 0].tolist() == list(range(1, 256))
    assert np.array_equal(
        found.numpy(), on_torch(Resizer(1, "squash", "bilinear"), planes(pixels), boxes)
    )


@pytest.mark.slow
def test_pictures_of_the_demo() -> None:
    rng = np.random.default_rng(0)
    for path in sorted(DEMO.rglob("*.*"))[::60]:
        image = Image.open(path).convert("RGB")
        first = rng.integers(0, np.array(image.size) // 2, (5, 2))
        last = rng.integers(np.array(image.size) // 2 + 1, np.array(image.size) + 1, (5, 2))
        assert_same(image, np.concatenate([first, last], axis=1).tolist(), Resizer(96))


@pytest.mark.slow
def test_boxes_in_groups_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA, where also the pixels of a box are then multiplied line by line."""
    image, resizer = planes(noise(90, 120)), Resizer(32)
    boxes = np.array([(i, 2 * i, 60 + 3 * i, 50 + i) for i in range(10)] + [(0, 0, 40, 120)])
    together = resizer(image, torch.from_numpy(boxes)).numpy()
    monkeypatch.setattr(resize, "HELD", 1)
    assert np.array_equal(on_torch(resizer, image, boxes), together)


def test_pixels_that_do_not_lie_side_by_side() -> None:
    image, resizer = planes(noise(50, 40)), Resizer(16)
    part = resizer(image[:, 3:, 5:], np.array([(0, 0, 20, 30)]))
    assert part.equal(resizer(image, np.array([(5, 3, 25, 33)])))


def test_without_a_folder_for_machine_code() -> None:
    found: dict[str, Any] = {}
    exec("def one(): return 1", found)  # in no file, beside which its code could be kept
    assert resize_compiled._compiled(found["one"])() == 1


def test_no_boxes() -> None:
    assert Resizer(8)(planes(noise(9, 9)), np.empty((0, 4), int)).shape == (0, 3, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("mode", "kind"), KINDS)
def test_cuda_has_the_same_bytes(mode: str, kind: Filter) -> None:
    image, resizer = planes(noise(500, 375)), Resizer(224, mode, kind)
    boxes = np.array([(0, 0, 500, 375), (9, 9, 300, 290), (499, 374, 500, 375), (100, 5, 180, 370)])
    found = resizer(image.cuda(), boxes)
    assert found.is_cuda
    assert found.cpu().equal(resizer(image, boxes))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.0, 0, 1, 1]], "integers"),
        ([0, 0, 1, 1], "integers"),
        ([[0, 0, 1]], "integers"),
        ([[-1, 0, 1, 1]], "inside"),
        ([[0, 0, 6, 4]], "inside"),
        ([[0, 0, 5, 5]], "inside"),
        ([[2, 0, 2, 4]], "empty"),
        ([[0, 3, 5, 1]], "empty"),
    ],
)
def test_boxes_that_are_refused(boxes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Resizer(8)(planes(noise(5, 4)), np.array(boxes))


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(4, 3, 5),
        torch.zeros(4, 5, dtype=torch.uint8),
        torch.zeros(4, 5, 3, dtype=torch.uint8),
        torch.zeros(0, 3, 5, dtype=torch.uint8),
    ],
)
def test_images_that_are_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match="image"):
        Resizer(8)(image, np.array([[0, 0, 1, 1]]))


def test_settings_that_are_refused() -> None:
    for side, mode, kind in (
        (0, "squash", "bicubic"),
        (8, "none", "bicubic"),
        (8, "squash", "box"),
    ):
        with pytest.raises(ValueError, match=r"cannot resize|unknown mode"):
            Resizer(side, mode, kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="thin"):
        Resizer(8, "longest")(planes(noise(100, 1)), np.array([[0, 0, 100, 1]]))
