"""Crop and resize many boxes of one image, byte for byte as Pillow does.

Pillow resizes one axis after the other. A pixel is the weighted sum of its neighbours, with weights
that are whole multiples of 2^-22; it is rounded half up and clipped to a byte before the pass along
the other axis. On the CPU these are the integer sums of `resize_compiled`, and on CUDA those of
`resize_triton`, for the boxes of many images at once. On CUDA without Triton each pass is a matrix
product in float64: a byte times a weight has 31 bits, so that products and sums are exact in any
order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from pipeline.kernels.geometry import View, clip_view
from pipeline.kernels.resize_taps import BITS, Crops, Filter, Taps, _taps

COLUMNS_FIRST = int(PIL.__version__.partition(".")[0]) >= 13
"""True if Pillow resizes columns first when an image shrinks mostly in height; 13.0 does."""
HELD = 1 << 26
"""Most bytes on CUDA of matrices held at once, and of float64 pixels that one product reads."""
TOGETHER = 1 << 28
"""Bytes of pixels that are sent to CUDA at once, and cropped by the same launches."""
TRITON = find_spec("triton") is not None
"""True if Triton is installed, as it is with torch for CUDA."""


def planes(image: Any) -> Tensor:
    """Convert an RGB image to uint8 (3, height, width).

    Args:
        image: Pillow image, or uint8 array (height, width, 3).
    """
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))


@dataclass(frozen=True)
class Resizer:
    """Cropping and resizing of boxes as in CLIP's preprocessing, up to its normalisation.

    Raises:
        ValueError: For another mode or filter, or a side that is not positive.
    """

    side: int
    """Side of the square output, in pixels."""
    mode: str = "shortest"
    """open_clip's `resize_mode`: `shortest` (resize the short side, then crop the centre; used by
    OpenAI), `longest` (resize the long side, then pad with black) or `squash` (resize both sides);
    or transformers' way, as in `pipeline.kernels.geometry.clip_view`.
    """
    filter: Filter = "bicubic"
    """Pillow's filter, antialiased when the box shrinks."""

    def __post_init__(self) -> None:
        if self.side < 1 or self.filter not in ("bilinear", "bicubic"):
            raise ValueError(f"cannot resize to {self.side} pixels with filter {self.filter!r}")
        clip_view(1, 1, self.side, self.mode)

    def __call__(self, image: Tensor, boxes: np.ndarray | Tensor) -> Tensor:
        """Crop and resize boxes of an image.

        Args:
            image: uint8 (3, height, width), as returned by `planes`, on the CPU or on CUDA.
            boxes: Half-open boxes in pixels, integers (n, 4), on the CPU.

        Returns:
            uint8 (n, 3, side, side), on the image's device.

        Raises:
            ValueError: For other types or shapes, for a box that is empty or leaves the image, or
                one so thin that `longest` rounds a side to 0 pixels.
        """
        (crops,) = self.by_groups([(image, boxes)], image.device)
        return crops

    def by_groups(
        self, images: Iterable[tuple[Tensor, np.ndarray | Tensor]], device: torch.device
    ) -> Iterator[Tensor]:
        """Crop and resize boxes of several images; on CUDA, those of many images at once.

        Args:
            images: Images and their boxes, as in a call; images on the CPU or the device.
            device: Device of the crops, a CPU or CUDA.

        Yields:
            Crops of one or more images, uint8 (n, 3, side, side), on the device, in order.

        Raises:
            ValueError: As in a call.
        """
        some = ((image, _checked(image, np.asarray(boxes))) for image, boxes in images)
        if device.type == "cuda" and TRITON:
            yield from (self._by_triton(group, device) for group in _groups(some))
            return
        alone = _by_products if device.type == "cuda" else _by_sums
        for image, boxes in some:
            yield alone(image.to(device), self._crops(boxes)) if len(boxes) else self._none(device)

    def _none(self, device: torch.device) -> Tensor:
        """Return no crops."""
        return torch.empty((0, 3, self.side, self.side), dtype=torch.uint8, device=device)

    def _by_triton(self, group: list[tuple[Tensor, np.ndarray]], device: torch.device) -> Tensor:
        """Crop and resize boxes of a group of images on CUDA."""
        from pipeline.kernels.resize_triton import resized

        images, boxes = zip(*group, strict=True)
        sizes = _sizes(np.concatenate(boxes))
        if not len(sizes):
            return self._none(device)
        views = self._views(sizes)
        order = _columns_first(sizes, np.array([view.lengths for view in views]))
        return resized(list(images), list(boxes), views, order, self.side, self.filter, device)

    def _views(self, sizes: np.ndarray) -> list[View]:
        """Return the part of each box that is shown, for sizes int64 (n, 2)."""
        views = [clip_view(w, h, self.side, self.mode) for w, h in sizes.tolist()]
        if not all(all(view.lengths) for view in views):
            raise ValueError(f"a box is too thin to be resized to {self.side} pixels")
        return views

    def _crops(self, boxes: np.ndarray) -> Crops:
        """Compute corners and taps of boxes, int64 (n, 4)."""
        sizes = _sizes(boxes)
        views = self._views(sizes)
        lengths = np.array([view.lengths for view in views])
        offsets = np.array([view.offsets for view in views])
        outputs = offsets[:, :, None] + np.arange(self.side)
        (left, x), (top, y) = (
            _taps(sizes[:, axis], lengths[:, axis], outputs[:, axis], self.filter)
            for axis in (0, 1)
        )
        corners = boxes[:, :2] + np.stack([left, top], axis=1)
        return Crops(corners, x, y, _columns_first(sizes, lengths))


def _sizes(boxes: np.ndarray) -> np.ndarray:
    """Return widths and heights of boxes, (n, 2)."""
    return np.asarray(boxes[:, 2:] - boxes[:, :2])


def _columns_first(sizes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return whether Pillow's pass along y comes first, from sizes before and after, (n, 2)."""
    shrunk = sizes - lengths
    return np.asarray(COLUMNS_FIRST & (shrunk[:, 1] > np.maximum(2 * shrunk[:, 0], 0)))


def _groups(
    images: Iterable[tuple[Tensor, np.ndarray]],
) -> Iterator[list[tuple[Tensor, np.ndarray]]]:
    """Gather images until their pixels fill `TOGETHER` bytes."""
    group: list[tuple[Tensor, np.ndarray]] = []
    for image, boxes in images:
        group.append((image, boxes))
        if sum(each.numel() for each, _ in group) >= TOGETHER:
            yield group
            group = []
    if group:
        yield group


def _checked(image: Tensor, boxes: np.ndarray) -> np.ndarray:
    """Check types, shapes and bounds; return the boxes as int64."""
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


def _by_sums(image: Tensor, crops: Crops) -> Tensor:
    """Resize by integer sums on the CPU."""
    from pipeline.kernels.resize_compiled import by_sums  # imports numba

    return torch.from_numpy(by_sums(image.numpy(), crops))


# --- Products --------------------------------------------------------------------------------


def _by_products(image: Tensor, crops: Crops) -> Tensor:
    """Resize by matrix products in float64, in groups of boxes that fit into `HELD` bytes."""
    count, side = crops.x.first.shape
    resized = image.new_empty((count, 3, side, side))
    longest = int(max(crops.x.last.max(), crops.y.last.max()))
    group = max(1, HELD // (16 * side * longest))
    for start in range(0, count, group):
        chosen = slice(start, start + group)
        corners = crops.corners[chosen].tolist()
        x, y = (_matrices(taps, chosen, image.device) for taps in (crops.x, crops.y))
        for row, ((left, top), across, down) in enumerate(zip(corners, x, y, strict=True), start):
            crop = image[:, top : top + len(down), left : left + len(across)]
            resized[row] = _both(crop, across, down, bool(crops.columns_first[row]))
    return resized


def _both(crop: Tensor, across: Tensor, down: Tensor, columns_first: bool) -> Tensor:
    """Resize one crop along both axes, in Pillow's order."""
    if columns_first:
        return _bytes(_by_parts(crop, 2, lambda part: down.mT @ part) @ across)
    return _bytes(down.mT @ _by_parts(crop, 1, lambda part: part @ across))


def _matrices(taps: Taps, chosen: slice, device: torch.device) -> list[Tensor]:
    """Return one matrix per box, float64 (inputs, outputs)."""
    first, last, weights = (values[chosen] for values in taps)
    outputs = first.shape[1]
    counts = last[:, -1] * outputs
    inputs = first[..., None] + np.arange(weights.shape[2])
    places = (np.cumsum(counts) - counts)[:, None, None] + inputs * outputs
    places += np.arange(outputs)[:, None]
    flat = torch.zeros(int(counts.sum()) + 1, dtype=torch.float64, device=device)
    used = torch.from_numpy(np.where(inputs < last[..., None], places, -1)).to(device)
    flat[used] = torch.from_numpy(weights).to(device).double() * 2.0**-BITS
    return [matrix.view(-1, outputs) for matrix in flat[:-1].split(counts.tolist())]


def _by_parts(crop: Tensor, axis: int, product: Callable[[Tensor], Tensor]) -> Tensor:
    """Run one pass over the pixels, a part along the other axis at a time."""
    step = max(1, HELD * crop.shape[axis] // (8 * crop.numel()))
    return torch.cat([_bytes(product(part.double())) for part in crop.split(step, axis)], axis)


def _bytes(sums: Tensor) -> Tensor:
    """Round half up and clip to 0..255, in place."""
    return sums.add_(0.5).clamp_(0, 255).floor_()
