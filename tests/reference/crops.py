"""Reference for the crops of one image, from the equations and the profiles, in exact fractions.

It computes one crop and one axis at a time. CLIP's view of an image is found by applying
torchvision's resize and centre crop to pictures whose pixel values are column and row numbers.
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

from tests.reference.formulas import Box, drawn, patch_probabilities, window_span

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Profile:
    """Rules and numbers of a run; the defaults are those of the official profile."""

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
    """K of feature crops under independent draws; None for `k`."""
    temperature: float = 0.03

    @property
    def ranks(self) -> int:
        """Number of patches that feature crops are drawn from."""
        return self.k if self.draws == "joint" or self.window_k is None else self.window_k


def profiles(n: int) -> dict[str, Profile]:
    """Return the three profiles, by name."""
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
    """A raw crop and a feature crop with the same number: a box in pixels and a window of tokens.

    Each is drawn around a patch: `patch` for the box, `source` for the window. `outcome` is the
    number of the window among all that can be drawn, by rank of the patch, then size; -1 if the
    windows are not square.
    """

    patch: int
    box: Box
    source: int
    token: int
    window: Box
    outcome: int


# --- Draws ----------------------------------------------------------------------------------


def file_uniforms(file: Path, seed: int, n: int, stream: str = "crops") -> np.ndarray:
    """Return the uniforms of an image's stream, (n, 8); row i belongs to crop i."""
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    key = hashlib.blake2b(f"{seed}:{stream}:{sha}".encode(), digest_size=16).digest()
    philox = np.random.Philox(key=int.from_bytes(key, "little"))
    return np.random.Generator(philox).random((n, 8))


def layered_uniforms(file: Path, seed: int, n: int) -> np.ndarray:
    """Return the uniforms of crops drawn by attention, (n, 16, 8): 16 layers for each crop."""
    return file_uniforms(file, seed, 16 * n).reshape(n, 16, 8)


def narrowed(column: np.ndarray, low: Fraction | float, high: Fraction | float) -> float:
    """Draw a number from [low, high) by rejection, with one uniform for each attempt.

    Each rejected number narrows the interval that the next one is drawn from, starting at [0, 1).
    The last uniform is mapped to [low, high) directly.
    """
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
    """Draw an integer from low to high, both included, out of the integers below `count`."""
    return math.floor(narrowed(column, low / count, (high + 1) / count) * count)


def narrowed_patch(column: np.ndarray, attention: Sequence[float], k: int, tau: float) -> int:
    """Draw one of the top k patches with probabilities from the softmax over all patches."""
    everything = patch_probabilities(attention, len(attention), tau)
    chosen = dict(list(everything.items())[:k])
    whole = k >= len(attention)
    return drawn(chosen, narrowed(column, 0.0, 1.0 if whole else sum(chosen.values())))


def drawn_share(length: int, column: np.ndarray, p: Profile) -> Fraction:
    """Draw one side of a crop as a share of the image's side (Eq. 6)."""
    if p.sizes == "ratio":
        return Fraction(narrowed(column, p.alpha, p.beta))
    low, high = int(length * p.alpha), int(length * p.beta)
    return Fraction(narrowed_integer(column, low, high, length + 1), length)


def window_sizes(tokens: int, p: Profile) -> list[int]:
    """List the sizes of square windows: at least two, as in the released code."""
    low, high = int(tokens * p.alpha), int(tokens * p.beta)
    return list(range(low, max(high, low + 1) + 1))


# --- CLIP's view ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One axis of an image resized to `length` pixels, and the part of it that tokens cover.

    The `side` pixels from `offset` on are divided into `tokens` tokens.
    """

    length: int
    offset: int
    side: int
    tokens: int

    def at(self, share: Fraction) -> Fraction:
        """Convert a position, given as a share of the image's side, to tokens."""
        return (share * self.length - self.offset) * Fraction(self.tokens, self.side)

    def token(self, place: Fraction) -> int:
        """Return the token that contains a position; positions outside are clipped."""
        return min(max(math.floor(place), 0), self.tokens - 1)

    def kept(self, first: Fraction, last: Fraction) -> tuple[int, int]:
        """Round the ends to whole tokens, half up, inside the grid and at least one token apart."""
        left = min(max(math.floor(first + HALF), 0), self.tokens - 1)
        return left, max(min(math.floor(last + HALF), self.tokens), left + 1)


@cache
def axes_of(size: tuple[int, int], side: int, tokens: int, view: str) -> tuple[Axis, Axis]:
    """Return both axes of an image of (width, height) for a CLIP with input side `side`."""
    if view == "whole":
        return Axis(tokens, 0, tokens, tokens), Axis(tokens, 0, tokens, tokens)
    width, height = Resize(side)(Image.new("L", size)).size
    places = np.mgrid[:height, :width].astype(np.int32)
    top, left = (CenterCrop(side)(Image.fromarray(p)).getpixel((0, 0)) for p in places)
    return Axis(width, left, side, tokens), Axis(height, top, side, tokens)


# --- Boxes and windows ----------------------------------------------------------------------


def box_span(index: int, grid: int, side: int, length: int) -> tuple[int, int]:
    """Compute one axis of Eq. 6: `side` pixels around a patch's centre, clipped to the image."""
    start = int(index * 16 * (length / (grid * 16)))
    end = start + int(16 * (length / (grid * 16)))
    centre = (start + end) // 2
    half = side // 2
    return max(0, centre - half), min(length, centre + half)


def place_of(index: int, grid: int, axis: Axis, rule: str) -> Fraction:
    """Compute the position of patch `index` of `grid` along an axis, in tokens, by index rule."""
    centre = axis.at(Fraction(2 * index + 1, 2 * grid))
    if rule == "exact":
        return min(max(centre, Fraction(0)), Fraction(axis.tokens))
    if rule == "corner":
        return axis.token(axis.at(Fraction(index, grid))) + HALF
    middles = [token + HALF for token in range(axis.tokens)]
    return min(middles, key=lambda middle: (abs(middle - centre), -middle))


def ratio_span(place: Fraction, share: Fraction, axis: Axis) -> tuple[int, int]:
    """Compute one axis of Eq. 7 as printed: a share of the image's side around a position."""
    length = axis.at(share) - axis.at(Fraction(0))
    return axis.kept(place - length / 2, place + length / 2)


def covered_span(ends: tuple[int, int], length: int, axis: Axis) -> tuple[int, int]:
    """Compute the tokens covered by the pixels between `ends`, of an image side of `length`."""
    first, last = (axis.at(Fraction(end, length)) for end in ends)
    return axis.kept(first, last)


@dataclass(frozen=True)
class Picture:
    """An image's size, the axes of CLIP's view, and the profile."""

    size: tuple[int, int]
    axes: tuple[Axis, Axis]
    profile: Profile

    def box(self, patch: int, shares: Sequence[Fraction], grid: int) -> Box:
        """Compute the box of a raw crop (Eq. 6)."""
        spans = [
            box_span(index, grid, math.floor(share * length), length)
            for index, share, length in zip(xy(patch, grid), shares, self.size, strict=True)
        ]
        return boxed(spans)

    def places(self, patch: int, grid: int) -> list[Fraction]:
        """Compute the position of a patch across and down, in tokens."""
        rule = self.profile.index
        pairs = zip(xy(patch, grid), self.axes, strict=True)
        return [place_of(index, grid, axis, rule) for index, axis in pairs]

    def token(self, patch: int, grid: int) -> int:
        column, row = self._tokens(patch, grid)
        return row * self.axes[0].tokens + column

    def square(self, patch: int, grid: int, size: int) -> Box:
        """Compute a square window, as in the released code."""
        tokens = self.axes[0].tokens
        return boxed([window_span(token, tokens, size) for token in self._tokens(patch, grid)])

    def window(self, patch: int, shares: Sequence[Fraction], grid: int) -> Box:
        """Compute a window of the shapes "ratio" and "box"."""
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
    """Return column and row of a patch."""
    return patch % grid, patch // grid


def boxed(spans: Sequence[tuple[int, int]]) -> Box:
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


# --- All crops of an image ------------------------------------------------------------------


def crops_of(attention: Sequence[float], u: np.ndarray, picture: Picture) -> list[Crop]:
    """Compute the crops that follow from attention and uniforms (n, 16, 8)."""
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
    """Draw width and height as shares of the image, from the last two of three columns."""
    pairs = zip(picture.size, columns[1:], strict=True)
    return [drawn_share(length, column, picture.profile) for length, column in pairs]


def all_windows(attention: Sequence[float], picture: Picture) -> list[tuple[int, int, Box]]:
    """List patch, token and window of all windows that can be drawn, by patch rank, then size."""
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
    """Compute WCA's squares: sides int(U[alpha, beta) * shorter side), at any position inside."""
    squares = []
    for share, across, down in u[:, :3]:
        side = int((alpha + share * (beta - alpha)) * min(size))
        left = math.floor(across * (size[0] - side + 1))
        top = math.floor(down * (size[1] - side + 1))
        squares.append((left, top, left + side, top + side))
    return squares
