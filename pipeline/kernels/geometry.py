"""Crop geometry: boxes in pixels, windows in tokens, and the way from one to the other.

Patches and tokens are flat indices of a square grid, row by row. Boxes and windows are half-open:
left, top, right, bottom. Pairs are x, y. Places on the token grid are exact fractions of integers,
so that no rounding depends on floating point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# --- Boxes of pixels -------------------------------------------------------------------------


def patch_centers(patch: Tensor, grid: int, width: int, height: int) -> Tensor:
    """Centre pixel of each patch of a grid laid over the whole image: int64 (n,) to (n, 2).

    The patch starts at floor(column * width / grid) and is floor(width / grid) wide; its centre
    is the floored mean of its ends. The product is taken in float64 and in the order of the
    released code, which for some widths ends one pixel before the exact one.
    """
    centers = []
    for index, size in ((patch % grid, width), (patch // grid, height)):
        start = ((index * 16).double() * (size / (grid * 16))).floor().long()
        end = (start + int(16 * (size / (grid * 16)))).clamp(max=size)
        centers.append((start + end) // 2)
    return torch.stack(centers, dim=-1)


def size_bounds(size: int, alpha: float, beta: float) -> tuple[int, int]:
    """The integer range that a crop's side is drawn from (Eq. 6): int(alpha s), int(beta s)."""
    return int(size * alpha), int(size * beta)


def raw_boxes(centers: Tensor, sizes: Tensor, width: int, height: int) -> Tensor:
    """Boxes around `centers`, clipped (not moved) at the border (Eq. 6).

    centers, sizes: int64 (n, 2). Half a side is floor(side / 2), as in the released code. A box is
    never empty: at least one pixel is kept. Returns int64 (n, 4).
    """
    limits = torch.tensor([width, height])
    first = torch.minimum((centers - sizes // 2).clamp(min=0), limits - 1)
    last = torch.maximum(torch.minimum(centers + sizes // 2, limits), first + 1)
    return torch.cat([first, last], dim=-1)


def square_boxes(sides: Tensor, places: Tensor, width: int, height: int) -> Tensor:
    """Squares inside the image, anywhere (WCA).

    sides: int64 (n,), at most the shorter side of the image. places: float64 (n, 2) in [0, 1), each
    of which chooses evenly among the places where the square fits. Returns int64 (n, 4).
    """
    sides = sides.clamp(min=1)[:, None]
    room = torch.tensor([width, height]) - sides
    first = (places * (room + 1)).floor().long()
    return torch.cat([first, first + sides], dim=-1)


# --- From the image to the token grid --------------------------------------------------------


@dataclass(frozen=True)
class View:
    """What CLIP sees of an image: it is resized to `lengths`, of which `side` pixels from `offsets`
    on are seen in either direction. Negative offsets are padding.
    """

    lengths: tuple[int, int]
    offsets: tuple[int, int]
    side: int


def whole_view(side: int) -> View:
    """The whole image, as if it had been squashed to the square that CLIP sees."""
    return View((side, side), (0, 0), side)


def clip_view(width: int, height: int, side: int, mode: str = "shortest") -> View:
    """What CLIP's own preprocessing leaves of an image of width x height.

    mode: `shortest` (the short side resized, then the centre: OpenAI's), `longest` (the long side
    resized, then padded) or `squash`. Numbers are rounded as torchvision and open_clip do.
    ValueError for another mode.
    """
    if mode not in ("shortest", "longest", "squash"):
        raise ValueError(f"unknown mode {mode!r}: shortest, longest or squash")
    if mode == "squash":
        return whole_view(side)
    if mode == "longest":
        ratio = max(width, height) / side
        lengths = round(width / ratio), round(height / ratio)
        return View(lengths, (-((side - lengths[0]) // 2), -((side - lengths[1]) // 2)), side)
    short, long = min(width, height), max(width, height)
    other = int(side * long / short)
    lengths = (side, other) if width <= height else (other, side)
    return View(lengths, (round((lengths[0] - side) / 2), round((lengths[1] - side) / 2)), side)


def token_places(patch: Tensor, source: int, target: int, view: View, rule: str) -> Tensor:
    """Where patches of the image lie on the token grid of a view: int64 (n,) to float64 (n, 2).

    rule: `corner`, the middle of the token that holds the patch's upper left corner, which is the
    released index map (row * target // source when the view is the whole image: 14 to 7 is halving,
    14 to 16 never yields row or column 7 or 15); `nearest`, the middle of the token nearest to the
    patch's centre; `exact`, the patch's centre itself. Outside the view: the nearest token.
    ValueError for another rule.
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
    """The token that holds each place: float64 (n, 2) to int64 (n,)."""
    column, row = places.floor().long().clamp(0, grid - 1).unbind(dim=-1)
    return row * grid + column


# --- Windows of tokens -----------------------------------------------------------------------


def window_bounds(grid: int, alpha: float, beta: float) -> tuple[int, int]:
    """The integer range of a square window's size; one value is widened by one, as released."""
    low, high = size_bounds(grid, alpha, beta)
    return low, max(high, low + 1)


def square_windows(places: Tensor, size: Tensor, grid: int) -> Tensor:
    """Squares of 2 * floor(size / 2) + 1 tokens around the token at each place, as released.

    places: float64 (n, 2); size: int64 (n,). Clipped at the border. Returns int64 (n, 4).
    """
    centers, half = places.floor().long().clamp(0, grid - 1), (size // 2)[:, None]
    return torch.cat([centers - half, centers + half + 1], dim=-1).clamp(0, grid)


def ratio_windows(places: Tensor, ratios: Tensor, grid: int, view: View) -> Tensor:
    """Windows of a crop's own share of the image around each place (Eq. 7 as printed).

    places: float64 (n, 2); ratios: float64 (n, 2), width and height as shares of the whole image.
    Ends are rounded to whole tokens, half up, and clipped; one token is kept. Returns int64 (n, 4).
    """
    sizes = ratios * (torch.tensor(view.lengths, dtype=torch.float64) * grid / view.side)
    ends = torch.cat([places - sizes / 2, places + sizes / 2], dim=-1)
    return _kept((ends + 0.5).floor().long(), places.floor().long(), grid)


def box_windows(boxes: Tensor, width: int, height: int, grid: int, view: View) -> Tensor:
    """The tokens of a view that boxes in the image cover: int64 (n, 4) to int64 (n, 4).

    Ends are rounded to whole tokens, half up, and clipped; one token is kept, the nearest where the
    view does not show the box at all.
    """
    below = torch.tensor([width, height, width, height]) * view.side
    lengths, offsets = torch.tensor(view.lengths * 2), torch.tensor(view.offsets * 2)
    above = (boxes * lengths - offsets * torch.tensor([width, height] * 2)) * grid
    middles = (above[:, :2] + above[:, 2:]) // (2 * below[:2])
    return _kept((2 * above + below) // (2 * below), middles, grid)


def _kept(windows: Tensor, middles: Tensor, grid: int) -> Tensor:
    """Clipped to the grid; where nothing is left of a side, the token at its middle."""
    first, last = windows.clamp(0, grid).split(2, dim=-1)
    first = torch.where(first < last, first, middles.clamp(0, grid - 1))
    return torch.cat([first, torch.maximum(last, first + 1)], dim=-1)
