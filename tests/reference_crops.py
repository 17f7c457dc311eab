"""Crops of one image, written from the equations and the table of profiles in exact fractions.

One crop and one axis at a time. What CLIP sees of an image is read off torchvision's own resizing
and centre crop of a picture whose pixels say which column, or row, they are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from tests.reference import Box, drawn, patch_probabilities, window_span

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Profile:
    """The rules and numbers of a run; the defaults are the official profile."""

    n: int
    seed: int = 0
    k: int = 20
    tau: float = 0.03
    alpha: float = 0.5
    beta: float = 0.9
    sizes: str = "integer"
    draws: str = "independent"
    shape: str = "square"
    index: str = "corner"
    view: str = "whole"
    window_k: int | None = 20
    """Of independent draws; None: as k."""
    temperature: float = 0.03

    @property
    def ranks(self) -> int:
        """How many patches feature crops are drawn from."""
        return self.k if self.draws == "joint" or self.window_k is None else self.window_k


def profiles(n: int) -> dict[str, Profile]:
    """The three of the design's table."""
    official = Profile(n)
    joint = replace(official, draws="joint", window_k=None)
    paper = replace(joint, tau=1.0, temperature=1.0, sizes="ratio")
    return {
        "official": official,
        "paper": replace(paper, shape="ratio", index="nearest"),
        "aligned": replace(joint, shape="box", index="exact", view="clip"),
    }


@dataclass(frozen=True)
class Crop:
    """Draw i of an image: a box in pixels around a patch, a window of tokens around a patch.

    The outcome counts the windows that could have been drawn, by rank of the patch, then size.
    """

    patch: int
    box: Box
    source: int
    token: int
    window: Box
    outcome: int


# --- Draws ----------------------------------------------------------------------------------


def file_uniforms(file: Path, seed: int, n: int, stream: str = "crops") -> np.ndarray:
    """The image's own stream: row i belongs to crop i."""
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    key = hashlib.blake2b(f"{seed}:{stream}:{sha}".encode(), digest_size=16).digest()
    philox = np.random.Philox(key=int.from_bytes(key, "little"))
    return np.random.Generator(philox).random((n, 8))


def layered_uniforms(file: Path, seed: int, n: int) -> np.ndarray:
    """The stream of crops that follow attention: crop i has 16 layers of 8."""
    return file_uniforms(file, seed, 16 * n).reshape(n, 16, 8)


def narrowed(column: np.ndarray, low: Fraction | float, high: Fraction | float) -> float:
    """One number of [low, high): drawn from what is left of [0, 1) until it lies there."""
    bottom, top = 0.0, 1.0
    for u in column[:-1].tolist():
        drawn_now = bottom + u * (top - bottom)
        if drawn_now < low:
            bottom = drawn_now
        elif drawn_now >= high:
            top = drawn_now
        else:
            return drawn_now
    return float(low) + float(column[-1]) * (float(high) - float(low))


def narrowed_integer(column: np.ndarray, low: int, high: int, count: int) -> int:
    """One of low to high, among the numbers below count."""
    return math.floor(narrowed(column, low / count, (high + 1) / count) * count)


def narrowed_patch(column: np.ndarray, attention: Sequence[float], k: int, tau: float) -> int:
    """One of the top k, as often as softmax over all patches has it."""
    everything = patch_probabilities(attention, len(attention), tau)
    chosen = dict(list(everything.items())[:k])
    whole = k >= len(attention)
    return drawn(chosen, narrowed(column, 0.0, 1.0 if whole else sum(chosen.values())))


def drawn_share(length: int, column: np.ndarray, p: Profile) -> Fraction:
    """One side of a crop as a share of the image's (Eq. 6)."""
    if p.sizes == "ratio":
        return Fraction(narrowed(column, p.alpha, p.beta))
    low, high = int(length * p.alpha), int(length * p.beta)
    return Fraction(narrowed_integer(column, low, high, length + 1), length)


def window_sizes(tokens: int, p: Profile) -> list[int]:
    """What the size of a square window is drawn from: at least two sizes, as released."""
    low, high = int(tokens * p.alpha), int(tokens * p.beta)
    return list(range(low, max(high, low + 1) + 1))


# --- What CLIP sees -------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One direction of the image resized to `length` pixels: `side` of them, from `offset` on, are
    `tokens` tokens."""

    length: int
    offset: int
    side: int
    tokens: int

    def at(self, share: Fraction) -> Fraction:
        """The place of a share of the image's side, in tokens."""
        return (share * self.length - self.offset) * Fraction(self.tokens, self.side)

    def token(self, place: Fraction) -> int:
        """The token that holds a place; those outside belong to the first or last."""
        return min(max(math.floor(place), 0), self.tokens - 1)

    def kept(self, first: Fraction, last: Fraction) -> tuple[int, int]:
        """Ends as whole tokens, half up, inside the grid, a token apart at least."""
        left = min(max(math.floor(first + HALF), 0), self.tokens - 1)
        return left, max(min(math.floor(last + HALF), self.tokens), left + 1)


@cache
def axes_of(size: tuple[int, int], side: int, tokens: int, view: str) -> tuple[Axis, Axis]:
    """Both directions of an image of (width, height) for a CLIP of that side."""
    if view == "whole":
        return Axis(tokens, 0, tokens, tokens), Axis(tokens, 0, tokens, tokens)
    width, height = Resize(side)(Image.new("L", size)).size
    places = np.mgrid[:height, :width].astype(np.int32)
    top, left = (CenterCrop(side)(Image.fromarray(p)).getpixel((0, 0)) for p in places)
    return Axis(width, left, side, tokens), Axis(height, top, side, tokens)


# --- Boxes and windows ----------------------------------------------------------------------


def box_span(index: int, grid: int, side: int, length: int) -> tuple[int, int]:
    """One axis of Eq. 6: `side` pixels about the centre of a patch, clipped to the image."""
    start = int(index * 16 * (length / (grid * 16)))
    end = start + int(16 * (length / (grid * 16)))
    centre = (start + end) // 2
    half = side // 2
    return max(0, centre - half), min(length, centre + half)


def place_of(index: int, grid: int, axis: Axis, rule: str) -> Fraction:
    """Where patch `index` of `grid` along an axis is taken to lie, in tokens."""
    centre = axis.at(Fraction(2 * index + 1, 2 * grid))
    if rule == "exact":
        return min(max(centre, Fraction(0)), Fraction(axis.tokens))
    if rule == "corner":
        return axis.token(axis.at(Fraction(index, grid))) + HALF
    middles = [token + HALF for token in range(axis.tokens)]
    return min(middles, key=lambda middle: (abs(middle - centre), -middle))


def ratio_span(place: Fraction, share: Fraction, axis: Axis) -> tuple[int, int]:
    """One axis of Eq. 7 as printed: a share of the image's side about a place."""
    length = axis.at(share) - axis.at(Fraction(0))
    return axis.kept(place - length / 2, place + length / 2)


def covered_span(ends: tuple[int, int], length: int, axis: Axis) -> tuple[int, int]:
    """The tokens between two pixels of an image of that length."""
    first, last = (axis.at(Fraction(end, length)) for end in ends)
    return axis.kept(first, last)


@dataclass(frozen=True)
class Picture:
    """An image's size, how CLIP sees it, and the rules."""

    size: tuple[int, int]
    axes: tuple[Axis, Axis]
    profile: Profile

    def box(self, patch: int, shares: Sequence[Fraction], grid: int) -> Box:
        """Eq. 6."""
        spans = [
            box_span(index, grid, math.floor(share * length), length)
            for index, share, length in zip(xy(patch, grid), shares, self.size, strict=True)
        ]
        return boxed(spans)

    def places(self, patch: int, grid: int) -> list[Fraction]:
        """Across and down, in tokens."""
        rule = self.profile.index
        pairs = zip(xy(patch, grid), self.axes, strict=True)
        return [place_of(index, grid, axis, rule) for index, axis in pairs]

    def token(self, patch: int, grid: int) -> int:
        column, row = self._tokens(patch, grid)
        return row * self.axes[0].tokens + column

    def square(self, patch: int, grid: int, size: int) -> Box:
        """The released windows."""
        tokens = self.axes[0].tokens
        return boxed([window_span(token, tokens, size) for token in self._tokens(patch, grid)])

    def window(self, patch: int, shares: Sequence[Fraction], grid: int) -> Box:
        """Of the two other shapes."""
        if self.profile.shape == "ratio":
            parts = zip(self.places(patch, grid), shares, self.axes, strict=True)
            return boxed([ratio_span(*part) for part in parts])
        left, top, right, bottom = self.box(patch, shares, grid)
        ends = zip(((left, right), (top, bottom)), self.size, self.axes, strict=True)
        return boxed([covered_span(*part) for part in ends])

    def _tokens(self, patch: int, grid: int) -> list[int]:
        pairs = zip(self.places(patch, grid), self.axes, strict=True)
        return [axis.token(place) for place, axis in pairs]


def xy(patch: int, grid: int) -> tuple[int, int]:
    """Column and row."""
    return patch % grid, patch // grid


def boxed(spans: Sequence[tuple[int, int]]) -> Box:
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


# --- All crops of an image ------------------------------------------------------------------


def crops_of(attention: Sequence[float], u: np.ndarray, picture: Picture) -> list[Crop]:
    """The crops that uniforms (n, 16, 8) decide."""
    grid, p = math.isqrt(len(attention)), picture.profile
    ranks = patch_probabilities(attention, p.ranks, p.tau)
    sizes = window_sizes(picture.axes[0].tokens, p)
    crops = []
    for row in u:
        columns = list(row.T)
        first, second = columns[:3], columns[:3] if p.draws == "joint" else columns[3:6]
        patch = narrowed_patch(first[0], attention, p.k, p.tau)
        source = narrowed_patch(second[0], attention, p.ranks, p.tau)
        box = picture.box(patch, shares_of(picture, first), grid)
        if p.shape == "square":
            tokens = picture.axes[0].tokens
            j = narrowed_integer(second[1], sizes[0], sizes[-1], tokens + 2) - sizes[0]
            window = picture.square(source, grid, sizes[j])
            outcome = list(ranks).index(source) * len(sizes) + j
        else:
            window, outcome = picture.window(source, shares_of(picture, second), grid), -1
        crops.append(Crop(patch, box, source, picture.token(source, grid), window, outcome))
    return crops


def shares_of(picture: Picture, columns: Sequence[np.ndarray]) -> list[Fraction]:
    """Width and height from the last two of three columns."""
    pairs = zip(picture.size, columns[1:], strict=True)
    return [drawn_share(length, column, picture.profile) for length, column in pairs]


def all_windows(attention: Sequence[float], picture: Picture) -> list[tuple[int, int, Box]]:
    """Patch, token and window of all that can be drawn, by rank of the patch, then size."""
    grid, p = math.isqrt(len(attention)), picture.profile
    sizes = window_sizes(picture.axes[0].tokens, p)
    return [
        (patch, picture.token(patch, grid), picture.square(patch, grid, size))
        for patch in patch_probabilities(attention, p.ranks, p.tau)
        for size in sizes
    ]


def squares_of(
    u: np.ndarray, size: tuple[int, int], alpha: float = 0.5, beta: float = 0.9
) -> list[Box]:
    """WCA's squares: int(U[alpha, beta) of the shorter side), anywhere they fit."""
    squares = []
    for share, across, down in u[:, :3]:
        side = int((alpha + share * (beta - alpha)) * min(size))
        left = math.floor(across * (size[0] - side + 1))
        top = math.floor(down * (size[1] - side + 1))
        squares.append((left, top, left + side, top + side))
    return squares
