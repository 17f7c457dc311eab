"""Crop and resize many boxes of one image, byte for byte as Pillow does.

Pillow resizes one axis after the other. A pixel is the sum of its neighbours times weights, which
are whole multiples of 2^-22; it is rounded half up and clipped to a byte before the other axis has
its turn. Here each pass is a product of matrices in float64. A byte times a weight has 31 bits, so
that products and sums are exact in whatever order they are added: the same bytes on any device and
with any number of threads. A matrix of weights is zero but for a band along its diagonal; on the
CPU only blocks along the band are multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL
import torch
from torch import Tensor

from pipeline.kernels.geometry import clip_view

Filter = Literal["bilinear", "bicubic"]

UNIT = 2.0**-22
"""Pillow's weights are whole multiples of this."""
COLUMNS_FIRST = int(PIL.__version__.partition(".")[0]) >= 13
"""Whether Pillow begins with the columns of an image that shrinks mostly in height; 13.0 does."""
STRIP = 16
"""Outputs of one product on the CPU: fewer are more calls, more are more zeros."""
CACHED = 1 << 20
"""Bytes of pixels in float64 that one product on the CPU reads."""
HELD = 1 << 26
"""Bytes of weights held at once; also of pixels in float64 that one product on CUDA reads."""


def planes(image: Any) -> Tensor:
    """An RGB image, of Pillow or as uint8 (height, width, 3), as uint8 (height, 3, width)."""
    return torch.from_numpy(np.array(np.asarray(image).transpose(0, 2, 1), order="C"))


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

        image: uint8 (height, 3, width), as of `planes`, on the CPU or on CUDA. boxes: integers
        (n, 4), half-open, on the CPU. ValueError for other types or shapes, for a box that is empty
        or not inside the image, and for one so thin that `longest` leaves nothing of it.
        """
        boxes = _checked(image, np.asarray(boxes))
        if image.device.type == "cpu":
            return torch.from_numpy(self._resize(np, image.numpy(), boxes, STRIP, CACHED))
        with image.device:
            resized: Tensor = self._resize(torch, image, boxes, self.side, HELD)
        return resized

    def _resize(self, xp: Any, image: Any, boxes: np.ndarray, strip: int, held: int) -> Any:
        """Arrays are of the library `xp`, numpy or torch; products are of `strip` outputs."""
        done = xp.empty((len(boxes), 3, self.side, self.side), dtype=xp.uint8)
        if not len(boxes):
            return done
        outputs = -(-self.side // strip) * strip
        longest = int((boxes[:, 2:] - boxes[:, :2]).max())
        products = _Products.of(xp, outputs, longest, held)
        group = max(1, HELD // (16 * outputs * (longest + strip)))
        for start in range(0, len(boxes), group):
            chosen = boxes[start : start + group]
            for row, (box, bands) in enumerate(self._bands(xp, chosen, outputs, strip), start):
                resized = xp.moveaxis(products(image, box, *bands), 1, 0)
                done[row] = resized[:, : self.side, : self.side]
        return done

    def _bands(
        self, xp: Any, boxes: np.ndarray, count: int, strip: int
    ) -> Iterator[tuple[list[int], tuple[_Band, _Band]]]:
        """Each box and its weights along x and y."""
        sizes = boxes[:, 2:] - boxes[:, :2]
        views = [clip_view(w, h, self.side, self.mode) for w, h in sizes.tolist()]
        lengths = np.array([view.lengths for view in views])
        if not lengths.all():
            raise ValueError(f"a box is too thin to be resized to {self.side} pixels")
        offsets = np.array([view.offsets for view in views])
        outputs = offsets[:, :, None] + np.arange(count)
        x, y = (
            _bands(xp, sizes[:, axis], lengths[:, axis], outputs[:, axis], self.filter, strip)
            for axis in (0, 1)
        )
        return zip(boxes.tolist(), zip(x, y, strict=True), strict=True)


def _checked(image: Tensor, boxes: np.ndarray) -> np.ndarray:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[1] != 3 or not image.numel():
        shape = tuple(image.shape)
        raise ValueError(f"image: {image.dtype} {shape}, not uint8 (height, 3, width)")
    if boxes.dtype.kind not in "iu" or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: {boxes.dtype} {boxes.shape}, not integers (n, 4)")
    boxes = boxes.astype(np.int64)
    width, height = image.shape[2], image.shape[0]
    if (boxes[:, :2] < 0).any() or (boxes[:, 2:] > (width, height)).any():
        raise ValueError(f"a box is not inside the image of {width} x {height} pixels")
    if (boxes[:, :2] >= boxes[:, 2:]).any():
        raise ValueError("a box is empty")
    return boxes


# --- Weights ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Band:
    """The weights along one axis of one box, `size` pixels resized to `length`, in strips.

    starts: the first input of each strip. blocks: float64 (strips, span, outputs of a strip).
    """

    size: int
    length: int
    starts: list[int]
    blocks: Any

    @property
    def inputs(self) -> tuple[int, int]:
        """The first input that is needed and the end of those that are."""
        return self.starts[0], self.starts[-1] + int(self.blocks.shape[1])

    @property
    def outputs(self) -> int:
        """Of all strips together."""
        return len(self.starts) * int(self.blocks.shape[2])


def _bands(
    xp: Any, sizes: np.ndarray, lengths: np.ndarray, outputs: np.ndarray, kind: Filter, strip: int
) -> list[_Band]:
    """`sizes` pixels, (n,), resized to `lengths`, (n,), as far as `outputs`, (n, m), are wanted.

    Outputs below 0 or from the length on are black.
    """
    first, last, values = _weights(sizes, lengths, outputs, kind)
    ends = last[:, strip - 1 :: strip]
    spans = (ends - first[:, ::strip]).max(axis=1)
    starts = np.minimum(first[:, ::strip], ends[:, -1:] - spans[:, None])
    counts = spans * outputs.shape[1]
    ats = np.cumsum(counts) - counts
    strips, columns = np.divmod(np.arange(outputs.shape[1]), strip)
    rows = first - starts[:, strips] + strips * spans[:, None]
    taps = np.arange(len(values))[:, None, None]
    places = np.where(taps < last - first, ats[:, None] + rows * strip + columns + taps * strip, -1)
    flat = xp.zeros(int(counts.sum()) + 1, dtype=xp.float64)
    flat[xp.asarray(places)] = xp.asarray(values)
    cut = zip(ats, counts, spans, strict=True)
    blocks = [flat[at : at + count].reshape(-1, span, strip) for at, count, span in cut]
    columns_of = zip(sizes.tolist(), lengths.tolist(), starts.tolist(), blocks, strict=True)
    return [_Band(*columns) for columns in columns_of]


def _weights(
    sizes: np.ndarray, lengths: np.ndarray, outputs: np.ndarray, kind: Filter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first input of each output and the last's end, (n, m), and weights, (taps, n, m).

    Weights past the last input are zero. Operations are in Pillow's order: in another one, float64
    would round some differently.
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
    whole = np.trunc(values / UNIT + np.copysign(0.5, values))
    return first, last, np.asarray(whole * (UNIT * (places == outputs)))


def _filtered(x: np.ndarray, kind: Filter) -> np.ndarray:
    x = np.minimum(np.abs(x), 2.0)
    if kind == "bilinear":
        return np.asarray(np.maximum(1.0 - x, 0.0))
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.asarray(np.where(x < 1.0, inner, outer))


# --- Products --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Products:
    """Both passes, with arrays of the library `xp` that are kept from box to box.

    converted: of pixels of the image. between: of one pass. resized: of both. float64, flat.
    """

    xp: Any
    converted: Any
    between: Any
    resized: Any

    @classmethod
    def of(cls, xp: Any, outputs: int, longest: int, held: int) -> _Products:
        """For boxes of up to `longest` pixels a side, and at least one row of pixels at a time."""
        sizes = (max(held // 8, longest), 3 * outputs * longest, 3 * outputs**2)
        return cls(xp, *(xp.empty(size, dtype=xp.float64) for size in sizes))

    def __call__(self, image: Any, box: list[int], x: _Band, y: _Band) -> Any:
        """(outputs of y, 3, outputs of x), bytes once they are truncated."""
        (left, right), (top, bottom) = x.inputs, y.inputs
        crop = image[box[1] + top : box[1] + bottom, :, box[0] + left : box[0] + right]
        height, _, width = crop.shape
        resized = self.resized[: 3 * y.outputs * x.outputs]
        if COLUMNS_FIRST and y.size - y.length > max(0, 2 * (x.size - x.length)):
            between = self.between[: 3 * y.outputs * width].reshape(y.outputs, -1)
            self._pass(crop.reshape(height, -1).T, y, between.T)
            self.xp.floor(between, out=between)
            self._pass(between.reshape(-1, width), x, resized.reshape(-1, x.outputs))
        else:
            between = self.between[: 3 * height * x.outputs].reshape(-1, x.outputs)
            self._pass(crop.reshape(-1, width), x, between)
            self.xp.floor(between, out=between)
            self._pass(between.reshape(height, -1).T, y, resized.reshape(y.outputs, -1).T)
        return resized.reshape(y.outputs, 3, x.outputs)

    def _pass(self, pixels: Any, band: _Band, out: Any) -> None:
        """(m, needed inputs) to (m, outputs): half added, and clipped so that truncation is left.

        Pixels that are bytes are converted and multiplied a part at a time.
        """
        rows, inputs = pixels.shape
        whole = pixels.dtype == self.xp.float64
        step = rows if whole else max(1, len(self.converted) // inputs)
        for row in range(0, rows, step):
            part = pixels[row : row + step]
            if not whole:
                part = self.converted[: part.shape[0] * inputs].reshape(part.shape)
                part[:] = pixels[row : row + step]
            self._multiply(part, band, out[row : row + step])
        out += 0.5
        self.xp.clip(out, 0, 255, out=out)

    def _multiply(self, pixels: Any, band: _Band, out: Any) -> None:
        _, span, strip = band.blocks.shape
        for index, start in enumerate(band.starts):
            inputs = pixels[:, start - band.starts[0] :][:, :span]
            outputs = out[:, index * strip :][:, :strip]
            self.xp.matmul(inputs, band.blocks[index], out=outputs)
