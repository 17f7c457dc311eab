"""Crop and resize many boxes of one image, byte for byte as Pillow does.

Pillow resizes one axis after the other. A pixel is the sum of its neighbours times weights, which
are whole multiples of 2^-22; it is rounded half up and clipped to a byte before the other axis has
its turn. On the CPU those are the integer sums of `resize_compiled`. On CUDA each pass is a product
of matrices in float64: a byte times a weight has 31 bits, so that products and sums are exact in
whatever order they are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL
import torch
from torch import Tensor

from pipeline.kernels.geometry import clip_view

Filter = Literal["bilinear", "bicubic"]

BITS = 22
"""Pillow's weights are whole multiples of 2^-22."""
COLUMNS_FIRST = int(PIL.__version__.partition(".")[0]) >= 13
"""Whether Pillow begins with the columns of an image that shrinks mostly in height; 13.0 does."""
HELD = 1 << 26
"""Bytes of matrices held at once on CUDA; also of pixels in float64 that one product reads."""


def planes(image: Any) -> Tensor:
    """An RGB image, of Pillow or as uint8 (height, width, 3), as uint8 (3, height, width)."""
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))


@dataclass(frozen=True)
class Resizer:
    """What CLIP's preprocessing makes of boxes, before it normalises: squares of `side` pixels.

    mode: `shortest` (the short side resized, then the centre: OpenAI's), `longest` (the long side
    resized, then padded with black) or `squash`. filter: Pillow's, antialiased when it shrinks.
    ValueError for others, or for a side that is not positive.
    """

    side: int
    mode: str = "shortest"
    filter: Filter = "bicubic"

    def __post_init__(self) -> None:
        if self.side < 1 or self.filter not in ("bilinear", "bicubic"):
            raise ValueError(f"cannot resize to {self.side} pixels with filter {self.filter!r}")
        clip_view(1, 1, self.side, self.mode)

    def __call__(self, image: Tensor, boxes: np.ndarray | Tensor) -> Tensor:
        """Each box cropped and resized: uint8 (n, 3, side, side) on the image's device.

        image: uint8 (3, height, width), as of `planes`, on the CPU or on CUDA. boxes: integers
        (n, 4), half-open, on the CPU. ValueError for other types or shapes, for a box that is empty
        or not inside the image, and for one so thin that `longest` leaves nothing of it.
        """
        boxes = _checked(image, np.asarray(boxes))
        if not len(boxes):
            return image.new_empty((0, 3, self.side, self.side))
        crops = self._crops(boxes)
        if image.is_cuda:
            return _by_products(image, crops)
        from pipeline.kernels.resize_compiled import by_sums  # numba, once it is needed

        return torch.from_numpy(by_sums(image.numpy(), crops))

    def _crops(self, boxes: np.ndarray) -> Crops:
        sizes = boxes[:, 2:] - boxes[:, :2]
        views = [clip_view(w, h, self.side, self.mode) for w, h in sizes.tolist()]
        lengths = np.array([view.lengths for view in views])
        if not lengths.all():
            raise ValueError(f"a box is too thin to be resized to {self.side} pixels")
        offsets = np.array([view.offsets for view in views])
        outputs = offsets[:, :, None] + np.arange(self.side)
        (left, x), (top, y) = (
            _taps(sizes[:, axis], lengths[:, axis], outputs[:, axis], self.filter)
            for axis in (0, 1)
        )
        corners = boxes[:, :2] + np.stack([left, top], axis=1)
        shrunk = sizes - lengths
        columns_first = COLUMNS_FIRST & (shrunk[:, 1] > np.maximum(2 * shrunk[:, 0], 0))
        return Crops(corners, x, y, columns_first)


def _checked(image: Tensor, boxes: np.ndarray) -> np.ndarray:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        shape = tuple(image.shape)
        raise ValueError(f"image: {image.dtype} {shape}, not uint8 (3, height, width)")
    if boxes.dtype.kind not in "iu" or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: {boxes.dtype} {boxes.shape}, not integers (n, 4)")
    boxes = boxes.astype(np.int64)
    height, width = image.shape[1:]
    if (boxes[:, :2] < 0).any() or (boxes[:, 2:] > (width, height)).any():
        raise ValueError(f"a box is not inside the image of {width} x {height} pixels")
    if (boxes[:, :2] >= boxes[:, 2:]).any():
        raise ValueError("a box is empty")
    return boxes


# --- Weights ---------------------------------------------------------------------------------


class Taps(NamedTuple):
    """What the m outputs along one axis of n boxes are sums of.

    first, last: int64 (n, m), the first input and the end of the last; the first of all is 0.
    weights: int32 (n, m, taps), in 2^-22; zero past the last input.
    """

    first: np.ndarray
    last: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Crops:
    """How n boxes are cropped and resized.

    corners: int64 (n, 2), x and y of the first pixel that is needed, from which inputs are counted.
    columns_first: bool (n,), whether y has its pass before x.
    """

    corners: np.ndarray
    x: Taps
    y: Taps
    columns_first: np.ndarray


def _taps(
    sizes: np.ndarray, lengths: np.ndarray, outputs: np.ndarray, kind: Filter
) -> tuple[np.ndarray, Taps]:
    """`sizes` pixels, (n,), resized to `lengths`, (n,), as far as `outputs`, (n, m), are wanted.

    Returns the first input that is needed, (n,), and the taps. Outputs below 0 or from the length
    on are black. Operations are in Pillow's order: in another one, float64 would round some
    differently.
    """
    sizes, lengths = sizes[:, None], lengths[:, None]
    places = outputs.clip(0, lengths - 1)
    scale = sizes / lengths
    stretch = np.maximum(scale, 1.0)
    reach = stretch * (2.0 if kind == "bicubic" else 1.0)
    centers = (places + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + reach + 0.5).astype(np.int64), sizes)
    inputs = first + np.arange((last - first).max())[:, None, None]
    values = _filtered((inputs - centers + 0.5) * (1.0 / stretch), kind)
    values *= inputs < last
    values /= sum(values)  # one after the other, which numpy's own sum need not be
    whole = np.trunc(values * 2.0**BITS + np.copysign(0.5, values)) * (places == outputs)
    weights = np.moveaxis(whole, 0, -1).astype(np.int32, order="C")
    return first[:, 0], Taps(first - first[:, :1], last - first[:, :1], weights)


def _filtered(x: np.ndarray, kind: Filter) -> np.ndarray:
    x = np.minimum(np.abs(x), 2.0)
    if kind == "bilinear":
        return np.asarray(np.maximum(1.0 - x, 0.0))
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.asarray(np.where(x < 1.0, inner, outer))


# --- Products --------------------------------------------------------------------------------


def _by_products(image: Tensor, crops: Crops) -> Tensor:
    count, side = crops.x.first.shape
    done = image.new_empty((count, 3, side, side))
    longest = int(max(crops.x.last.max(), crops.y.last.max()))
    group = max(1, HELD // (16 * side * longest))
    for start in range(0, count, group):
        chosen = slice(start, start + group)
        corners = crops.corners[chosen].tolist()
        x, y = (_matrices(taps, chosen, image.device) for taps in (crops.x, crops.y))
        for row, ((left, top), across, down) in enumerate(zip(corners, x, y, strict=True), start):
            crop = image[:, top : top + len(down), left : left + len(across)]
            done[row] = _both(crop, across, down, bool(crops.columns_first[row]))
    return done


def _both(crop: Tensor, across: Tensor, down: Tensor, columns_first: bool) -> Tensor:
    if columns_first:
        return _bytes(_by_parts(crop, 2, lambda part: down.mT @ part) @ across)
    return _bytes(down.mT @ _by_parts(crop, 1, lambda part: part @ across))


def _matrices(taps: Taps, chosen: slice, device: torch.device) -> list[Tensor]:
    """Of each box, float64 (inputs, outputs)."""
    first, last, weights = (each[chosen] for each in taps)
    outputs = first.shape[1]
    counts = last[:, -1] * outputs
    inputs = first[..., None] + np.arange(weights.shape[2])
    places = (np.cumsum(counts) - counts)[:, None, None] + inputs * outputs
    places += np.arange(outputs)[:, None]
    flat = torch.zeros(int(counts.sum()) + 1, dtype=torch.float64, device=device)
    used = torch.from_numpy(np.where(inputs < last[..., None], places, -1)).to(device)
    flat[used] = torch.from_numpy(weights).to(device).double() * 2.0**-BITS
    return [each.view(-1, outputs) for each in flat[:-1].split(counts.tolist())]


def _by_parts(crop: Tensor, axis: int, product: Callable[[Tensor], Tensor]) -> Tensor:
    """One pass: the pixels are converted and multiplied a part along the other axis at a time."""
    step = max(1, HELD * crop.shape[axis] // (8 * crop.numel()))
    return torch.cat([_bytes(product(part.double())) for part in crop.split(step, axis)], axis)


def _bytes(sums: Tensor) -> Tensor:
    return sums.add_(0.5).clamp_(0, 255).floor_()
