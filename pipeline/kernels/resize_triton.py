"""Passes of `resize` on CUDA: Pillow's integer sums, for boxes of many images in three launches.

One kernel computes the weights of every box, in float64 and in Pillow's order of operations;
another runs the two passes. A box travels to the device as a few integers. Triton launches on the
current device, which need not be that of the tensors, as operations of torch do not ask for it.

With TRITON_INTERPRET=1 set before this module is imported, the same kernels run on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from pipeline.kernels.geometry import View
from pipeline.kernels.resize_taps import BITS, Filter, inputs_of
from pipeline.kernels.transfer import to_device

SUMS = 1024
"""Sums of one program."""
HELD = 1 << 28
"""Most bytes of weights, and of pixels between the passes, that are held at once."""

FIELDS = tl.constexpr(16)
IMAGE, PASS = tl.constexpr(0), tl.constexpr(1)
LINES, BEFORE = tl.constexpr(2), tl.constexpr(3)
CORNER, SIZE, LENGTH = tl.constexpr(4), tl.constexpr(6), tl.constexpr(8)
OFFSET, LOW, TAPS = tl.constexpr(10), tl.constexpr(12), tl.constexpr(14)
"""Columns of the table of boxes, int32 (n, 16): image, axis of the first pass (0 is x), lines of
the first pass, lines of the boxes before; then for x and y corner, size, length when resized, first
output, first input that is read, and most inputs of an output.
"""
SCALE = tl.constexpr(float(1 << BITS))
HALF, SHIFT = tl.constexpr(1 << (BITS - 1)), tl.constexpr(BITS)


def resized(
    images: list[Tensor],
    boxes: list[np.ndarray],
    views: list[View],
    columns_first: np.ndarray,
    side: int,
    kind: Filter,
    device: torch.device,
) -> Tensor:
    """Crop and resize boxes of images.

    Args:
        images: uint8 (3, height, width), on the host or the device.
        boxes: Half-open boxes in pixels of each image, int64 (n, 4).
        views: View of each box of all images.
        columns_first: Whether the pass along y comes first, bool, for each box of all images.
        side: Side of the output.
        kind: Filter.
        device: Device of the kernels.

    Returns:
        uint8 (boxes, 3, side, side), on the device.
    """
    table = _table(boxes, views, columns_first, side, kind)
    sizes = [(image.numel(), image.shape[2], image.shape[1]) for image in images]
    shapes = np.array(sizes, np.int64)
    shapes[:, 0] = np.cumsum(shapes[:, 0]) - shapes[:, 0]
    pixels = to_device(torch.cat([image.flatten() for image in images]), device)
    on_device = to_device(torch.from_numpy(shapes), device)
    parts = []
    for part in _groups(table, side):
        lines, taps = part[:, LINES.value], int(part[:, TAPS.value :].max())
        rows = to_device(torch.from_numpy(part), device)
        first, weights = taps_of(rows, side, taps, kind == "bicubic")
        more = int(lines.sum()), int(lines.max())
        between = first_pass(pixels, on_device, rows, first, weights, *more)
        parts.append(second_pass(between, rows, first, weights))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _table(
    boxes: list[np.ndarray], views: list[View], columns_first: np.ndarray, side: int, kind: Filter
) -> np.ndarray:
    """Build the table of boxes."""
    joined, counts = np.concatenate(boxes), [len(part) for part in boxes]
    sizes = joined[:, 2:] - joined[:, :2]
    lengths = np.array([view.lengths for view in views])
    offsets = np.array([view.offsets for view in views])
    ends = np.stack([offsets, offsets + side - 1]).clip(0, lengths - 1)
    _, (low, _), (_, high) = inputs_of(sizes, lengths, ends, kind)
    reach = np.maximum(sizes / lengths, 1.0) * (2 if kind == "bicubic" else 1)
    axis = columns_first.astype(int)
    lines = np.take_along_axis(high - low, 1 - axis[:, None], axis=1)[:, 0]
    image = np.repeat(np.arange(len(boxes)), counts)
    by_axis = (joined[:, :2], sizes, lengths, offsets, low, np.ceil(2 * reach) + 1)
    return np.column_stack([image, axis, lines, 0 * lines, *by_axis]).astype(np.int32)


def _groups(table: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Cut the table into groups that fit into `HELD` bytes; count the lines within each."""
    taps = table[:, TAPS.value :].max(axis=1).astype(np.int64)
    bytes_ = np.maximum(3 * side * table[:, LINES.value], 8 * side * taps)
    group = (np.cumsum(bytes_) - bytes_) // HELD
    for part in np.split(table, np.flatnonzero(np.diff(group)) + 1):
        lines = part[:, LINES.value]
        part[:, BEFORE.value] = np.cumsum(lines) - lines
        yield part


@torch.library.custom_op("abs_pipeline::taps", mutates_args=())
def taps_of(rows: Tensor, side: int, taps: int, cubic: bool) -> tuple[Tensor, Tensor]:
    """Compute first inputs, int32 (n, 2, side), and weights, int32 (n, 2, taps, side)."""
    first, weights = _empty_taps(rows, side, taps, cubic)
    width = triton.next_power_of_2(side)
    options = {"enable_fp_fusion": False}  # a fused sum would be rounded once, unlike Pillow's
    with torch.cuda.device_of(rows):
        _taps[(len(rows), 2)](rows, first, weights, side, taps, cubic, width, **options)
    return first, weights


@torch.library.custom_op("abs_pipeline::first_pass", mutates_args=())
def first_pass(
    pixels: Tensor,
    shapes: Tensor,
    rows: Tensor,
    first: Tensor,
    weights: Tensor,
    lines: int,
    most: int,
) -> Tensor:
    """Run the first pass: uint8 (3 * lines, side), plane by plane of each box."""
    between: Tensor = _empty_between(pixels, shapes, rows, first, weights, lines, most)
    side = first.shape[2]
    grid = len(rows), triton.cdiv(3 * most * side, SUMS)
    common = rows, first, weights, side, weights.shape[2]
    with torch.cuda.device_of(pixels):
        _pass[grid](pixels, between, shapes, *common, 0, SUMS)
    return between


@torch.library.custom_op("abs_pipeline::second_pass", mutates_args=())
def second_pass(between: Tensor, rows: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    """Run the second pass: uint8 (n, 3, side, side)."""
    out: Tensor = _empty_resized(between, rows, first, weights)
    side = first.shape[2]
    grid = len(rows), triton.cdiv(3 * side * side, SUMS)
    common = rows, first, weights, side, weights.shape[2]
    with torch.cuda.device_of(between):
        _pass[grid](between, out, rows, *common, 1, SUMS)
    return out


@taps_of.register_fake
def _empty_taps(rows: Tensor, side: int, taps: int, cubic: bool) -> tuple[Tensor, Tensor]:
    shape = len(rows), 2, side
    return rows.new_empty(shape), rows.new_empty(*shape[:2], taps, side)


@first_pass.register_fake
def _empty_between(
    pixels: Tensor,
    shapes: Tensor,
    rows: Tensor,
    first: Tensor,
    weights: Tensor,
    lines: int,
    most: int,
) -> Tensor:
    return pixels.new_empty(3 * lines, first.shape[2])


@second_pass.register_fake
def _empty_resized(between: Tensor, rows: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    side = first.shape[2]
    return between.new_empty(len(rows), 3, side, side)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _filtered(x, cubic: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Evaluate the filter."""
    x = tl.minimum(tl.abs(x), 2.0)
    if not cubic:
        return tl.maximum(1.0 - x, 0.0)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return tl.where(x < 1.0, inner, outer)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _taps(  # type: ignore[no-untyped-def]  # noqa: ANN202
    rows,  # noqa: ANN001
    firsts,  # noqa: ANN001
    weights,  # noqa: ANN001
    side,  # noqa: ANN001
    most,  # noqa: ANN001
    cubic: tl.constexpr,
    WIDTH: tl.constexpr,  # noqa: N803
):
    """Compute the taps of one box along one axis, as `resize_taps._taps` does."""
    box, axis = tl.program_id(0), tl.program_id(1)
    row = rows + box * FIELDS
    size, length = tl.load(row + SIZE + axis), tl.load(row + LENGTH + axis)
    outputs = tl.arange(0, WIDTH)
    stored = outputs < side
    wanted = outputs + tl.load(row + OFFSET + axis)
    places = tl.minimum(tl.maximum(wanted, 0), length - 1)
    scale = size.to(tl.float64) / length.to(tl.float64)
    stretch = tl.maximum(scale, 1.0)
    reach = stretch * (2.0 if cubic else 1.0)
    centers = (places.to(tl.float64) + 0.5) * scale
    first = tl.maximum((centers - reach + 0.5).to(tl.int32), 0)
    last = tl.minimum((centers + reach + 0.5).to(tl.int32), size)
    shrink = 1.0 / stretch
    count = tl.load(row + TAPS + axis)
    total = tl.zeros([WIDTH], tl.float64)
    for k in range(0, count):
        value = _filtered(((first + k).to(tl.float64) - centers + 0.5) * shrink, cubic)
        total += tl.where(first + k < last, value, 0.0)
    place = (box * 2 + axis).to(tl.int64)
    tl.store(firsts + place * side + outputs, first, stored)
    for k in range(0, count):
        value = _filtered(((first + k).to(tl.float64) - centers + 0.5) * shrink, cubic)
        share = tl.where(first + k < last, value, 0.0) / total
        whole = (share * SCALE + tl.where(share < 0, -0.5, 0.5)).to(tl.int32)
        whole = tl.where(places == wanted, whole, 0)
        tl.store(weights + (place * most + k) * side + outputs, whole, stored)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _pass(  # type: ignore[no-untyped-def]  # noqa: ANN202
    source,  # noqa: ANN001
    target,  # noqa: ANN001
    shapes,  # noqa: ANN001
    rows,  # noqa: ANN001
    firsts,  # noqa: ANN001
    weights,  # noqa: ANN001
    side,  # noqa: ANN001
    most,  # noqa: ANN001
    SECOND: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Run one pass over a part of one box's pixels."""
    box = tl.program_id(0)
    row = rows + box * FIELDS
    lines, before = tl.load(row + LINES), tl.load(row + BEFORE).to(tl.int64) * 3
    across = tl.load(row + PASS)  # axis of the first pass
    axis = 1 - across if SECOND else across
    element = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    high = side if SECOND else lines
    plane, inner = element // (high * side), element % (high * side)
    inside = plane < 3
    major, minor = inner // side, inner % side
    if SECOND:
        output, line = tl.where(axis == 1, major, minor), tl.where(axis == 1, minor, major)
    else:
        output, line = minor, major
    place = (box * 2 + axis).to(tl.int64)
    first = tl.load(firsts + place * side + output, inside)
    if SECOND:
        first = first - tl.load(row + LOW + axis)
        start = source + (before + plane * lines + first) * side + line
        step = side
        room = lines - first
    else:
        shape = shapes + tl.load(row + IMAGE) * 3
        base, width, height = tl.load(shape), tl.load(shape + 1), tl.load(shape + 2)
        line = line + tl.load(row + LOW + 1 - axis)
        x = tl.load(row + CORNER) + tl.where(axis == 0, first, line)
        y = tl.load(row + CORNER + 1) + tl.where(axis == 0, line, first)
        start = source + base + (plane * height + y) * width + x
        step = tl.where(axis == 0, 1, width)
        room = tl.load(row + SIZE + axis) - first
    sums = tl.full([BLOCK], HALF, tl.int32)
    for k in range(0, tl.load(row + TAPS + axis)):
        weight = tl.load(weights + (place * most + k) * side + output, inside)
        pixel = tl.load(start + k * step, inside & (k < room), other=0)
        sums += weight * pixel.to(tl.int32)
    value = tl.minimum(tl.maximum(sums >> SHIFT, 0), 255).to(tl.uint8)
    if SECOND:
        tl.store(target + box.to(tl.int64) * 3 * side * side + element, value, inside)
    else:
        tl.store(target + before * side + element, value, inside)
