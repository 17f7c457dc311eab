"""Crop geometry: boxes in pixels, windows in tokens, and the map from one to the other.

Patches and tokens are flat indices of a square grid, row by row. Boxes and windows are half-open:
left, top, right, bottom. Pairs are (x, y). Positions on the token grid are exact fractions of
integers, so that no rounding depends on floating point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.kernels.resize_modes import mode_parts

# --- Boxes of pixels -------------------------------------------------------------------------


def patch_centers(patch: Tensor, grid: int, width: int, height: int) -> Tensor:
    """Compute the centre pixel of each patch of a grid laid over the whole image.

    A patch starts at floor(column * width / grid) and is floor(width / grid) wide; its centre is
    the floored mean of its ends. The product is taken in float64 and in the order of the released
    code, which for some widths ends one pixel before the exact result.

    Args:
        patch: Flat patch indices, int64 (n,).
        grid: Patches along a side of the image.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.

    Returns:
        x and y in pixels, int64 (n, 2).
    """
    centers = []
    for index, size in ((patch % grid, width), (patch // grid, height)):
        start = ((index * 16).double() * (size / (grid * 16))).floor().long()
        end = (start + int(16 * (size / (grid * 16)))).clamp(max=size)
        centers.append((start + end) // 2)
    return torch.stack(centers, dim=-1)


def size_bounds(size: int, alpha: float, beta: float) -> tuple[int, int]:
    """Return the integer range that a crop's side is drawn from (Eq. 6), as in the released code.

    Args:
        size: Side of the image in pixels, or of the grid in tokens.
        alpha: Smallest side of a crop, as a share of `size`.
        beta: Largest side, as a share of `size`.

    Returns:
        int(alpha * size) and int(beta * size).
    """
    return int(size * alpha), int(size * beta)


def raw_boxes(centers: Tensor, sizes: Tensor, width: int, height: int) -> Tensor:
    """Compute boxes around centres, clipped (not moved) at the border of the image (Eq. 6).

    Half a side is floor(side / 2), as in the released code. At least one pixel of a box is kept.

    Args:
        centers: x and y in pixels, int64 (n, 2).
        sizes: Width and height of each box in pixels, int64 (n, 2).
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.

    Returns:
        Half-open boxes in pixels, int64 (n, 4).
    """
    limits = torch.tensor([width, height])
    first = torch.minimum((centers - sizes // 2).clamp(min=0), limits - 1)
    last = torch.maximum(torch.minimum(centers + sizes // 2, limits), first + 1)
    return torch.cat([first, last], dim=-1)


def square_boxes(sides: Tensor, places: Tensor, width: int, height: int) -> Tensor:
    """Compute squares at given relative positions inside the image (WCA).

    Args:
        sides: Sides in pixels, int64 (n,), at most the shorter side of the image; 0 counts as 1.
        places: float64 (n, 2) in [0, 1): along x and y, uniform numbers choose uniformly among the
            positions where the square fits.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.

    Returns:
        Half-open boxes in pixels, int64 (n, 4).
    """
    sides = sides.clamp(min=1)[:, None]
    room = torch.tensor([width, height]) - sides
    first = (places * (room + 1)).floor().long()
    return torch.cat([first, first + sides], dim=-1)


# --- From the image to the token grid --------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Part of an image that CLIP's preprocessing shows to its encoder.

    The image is resized to `lengths`, and a square of `side` pixels is taken from `offsets` on.
    This is geometry only; `pipeline.methods.base.ViewVectors` holds embeddings of views.
    """

    lengths: tuple[int, int]
    """Width and height of the resized image, in pixels."""
    offsets: tuple[int, int]
    """Left and upper end of the square in the resized image, in pixels; negative where it is
    padded.
    """
    side: int
    """Side of the square, in pixels."""


def whole_view(side: int) -> View:
    """Return the view of a whole image that is squashed to a square of `side` pixels."""
    return View((side, side), (0, 0), side)


def clip_view(width: int, height: int, side: int, mode: str = "shortest") -> View:
    """Compute the view that CLIP's own preprocessing takes of an image.

    Lengths and offsets are rounded as torchvision and open_clip do, or as transformers does for a
    mode with a number.

    Args:
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        side: Side of CLIP's input, in pixels.
        mode: open_clip's `resize_mode`: `shortest` (resize the short side, then crop the centre;
            used by OpenAI), `longest` (resize the long side, then pad) or `squash` (resize both
            sides); or transformers' way, with the pixels of the side before the centre is cropped:
            `shortest:256` or `squash:346`.

    Raises:
        ValueError: For another mode, or fewer pixels than `side`.
    """
    kind, before = mode_parts(mode)
    if before is not None:
        if before < side:
            raise ValueError(f"mode {mode!r} resizes to fewer pixels than the {side} of the side")
        lengths = (before, before) if kind == "squash" else _short_side(width, height, before)
        return View(lengths, ((lengths[0] - side) // 2, (lengths[1] - side) // 2), side)
    if kind == "squash":
        return whole_view(side)
    if kind == "longest":
        ratio = max(width, height) / side
        lengths = round(width / ratio), round(height / ratio)
        return View(lengths, (-((side - lengths[0]) // 2), -((side - lengths[1]) // 2)), side)
    lengths = _short_side(width, height, side)
    return View(lengths, (round((lengths[0] - side) / 2), round((lengths[1] - side) / 2)), side)


def _short_side(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height of an image whose short side is resized to `side` pixels."""
    other = int(side * max(width, height) / min(width, height))
    return (side, other) if width <= height else (other, side)


def token_places(patch: Tensor, source: int, target: int, view: View, rule: str) -> Tensor:
    """Map patches of the image to positions on the token grid of a view.

    Args:
        patch: Flat patch indices, int64 (n,).
        source: Patches along a side of the image.
        target: Tokens along a side of the view.
        view: Part of the image that the token grid covers.
        rule: `corner`, the middle of the token that holds the patch's upper left corner: the index
            map of the released code (row * target // source if the view is the whole image, so that
            14 to 7 is halving and 14 to 16 never yields row or column 7 or 15); `nearest`, the
            middle of the token nearest to the patch's centre; `exact`, the patch's centre itself.

    Returns:
        x and y in tokens, float64 (n, 2), moved to the nearest place of the grid for patches
            outside the view.

    Raises:
        ValueError: For another rule.
    """
    if rule not in ("corner", "nearest", "exact"):
        raise ValueError(f"unknown rule {rule!r}: corner, nearest or exact")
    places = []
    for axis, index in enumerate((patch % source, patch // source)):
        half = 0 if rule == "corner" else 1
        length, offset = view.lengths[axis], view.offsets[axis]
        above = ((2 * index + half) * length - 2 * source * offset) * target
        below = 2 * source * view.side
        if rule == "exact":
            places.append((above.double() / below).clamp(0, target))
        else:
            places.append((above // below).clamp(0, target - 1) + 0.5)
    return torch.stack(places, dim=-1).double()


def tokens_at(places: Tensor, grid: int) -> Tensor:
    """Return the token at each position.

    Args:
        places: x and y in tokens, float64 (n, 2).
        grid: Tokens along a side of CLIP's grid.

    Returns:
        Flat token indices, int64 (n,); the nearest token for positions outside the grid.
    """
    column, row = places.floor().long().clamp(0, grid - 1).unbind(dim=-1)
    return row * grid + column


# --- Windows of tokens -----------------------------------------------------------------------


def window_bounds(grid: int, alpha: float, beta: float) -> tuple[int, int]:
    """Return the integer range that the size of a square window is drawn from.

    Args:
        grid: Tokens along a side of CLIP's grid.
        alpha: Smallest size, as a share of `grid`.
        beta: Largest size, as a share of `grid`.

    Returns:
        int(alpha * grid) and int(beta * grid), the latter raised by one if both are equal, as in
            the released code.
    """
    low, high = size_bounds(grid, alpha, beta)
    return low, max(high, low + 1)


def square_windows(places: Tensor, size: Tensor, grid: int) -> Tensor:
    """Compute square windows around the token at each position, as in the released code.

    A window has 2 * floor(size / 2) + 1 tokens along a side, before it is clipped at the border.

    Args:
        places: x and y in tokens, float64 (n, 2).
        size: Drawn sizes in tokens, int64 (n,).
        grid: Tokens along a side of CLIP's grid.

    Returns:
        Half-open windows in tokens, int64 (n, 4).
    """
    centers, half = places.floor().long().clamp(0, grid - 1), (size // 2)[:, None]
    return torch.cat([centers - half, centers + half + 1], dim=-1).clamp(0, grid)


def ratio_windows(places: Tensor, ratios: Tensor, grid: int, view: View) -> Tensor:
    """Compute windows with a crop's own share of the image around each position (Eq. 7 as printed).

    Ends are rounded to whole tokens, halves up, and clipped; at least one token is kept.

    Args:
        places: x and y in tokens, float64 (n, 2).
        ratios: Width and height of each crop as shares of the whole image, float64 (n, 2).
        grid: Tokens along a side of CLIP's grid.
        view: Part of the image that the token grid covers.

    Returns:
        Half-open windows in tokens, int64 (n, 4).
    """
    sizes = ratios * (torch.tensor(view.lengths, dtype=torch.float64) * grid / view.side)
    ends = torch.cat([places - sizes / 2, places + sizes / 2], dim=-1)
    return _kept((ends + 0.5).floor().long(), places.floor().long(), grid)


def box_windows(boxes: Tensor, width: int, height: int, grid: int, view: View) -> Tensor:
    """Compute the windows of tokens that boxes in the image cover.

    Ends are rounded to whole tokens, halves up, and clipped; at least one token is kept, the
    nearest one if the view does not show the box at all.

    Args:
        boxes: Half-open boxes in pixels, int64 (n, 4).
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        grid: Tokens along a side of CLIP's grid.
        view: Part of the image that the token grid covers.

    Returns:
        Half-open windows in tokens, int64 (n, 4).
    """
    below = torch.tensor([width, height, width, height]) * view.side
    lengths, offsets = torch.tensor(view.lengths * 2), torch.tensor(view.offsets * 2)
    above = (boxes * lengths - offsets * torch.tensor([width, height] * 2)) * grid
    middles = (above[:, :2] + above[:, 2:]) // (2 * below[:2])
    return _kept((2 * above + below) // (2 * below), middles, grid)


def _kept(windows: Tensor, middles: Tensor, grid: int) -> Tensor:
    """Clip windows to the grid; if nothing is left of a side, keep the token at its middle."""
    first, last = windows.clamp(0, grid).split(2, dim=-1)
    first = torch.where(first < last, first, middles.clamp(0, grid - 1))
    return torch.cat([first, torch.maximum(last, first + 1)], dim=-1)
