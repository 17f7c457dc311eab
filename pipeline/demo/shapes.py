"""Filled polygons and the palette: what every scene is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "red": (205, 32, 38),
    "yellow": (238, 204, 34),
    "green": (36, 140, 52),
    "blue": (42, 84, 214),
    "black": (28, 26, 30),
    "white": (240, 238, 232),
}
INK: Colour = (22, 20, 22)


@dataclass(frozen=True)
class Shape:
    """A polygon (n, 2) filled with one colour; `part` is the bird's part, or empty for ground."""

    part: str
    colour: Colour
    points: Points


def colour(channels: NDArray[np.int64]) -> Colour:
    """Three channels as a colour."""
    red, green, blue = channels.tolist()
    return red, green, blue


def tinted(rng: np.random.Generator, name: str) -> Colour:
    """A palette colour with a tint of its own."""
    return colour(np.clip(np.array(PALETTE[name]) + rng.integers(-14, 15, 3), 0, 255))


def polygon(corners: str) -> Points:
    """ "0,0 1,0 1,1" to (3, 2)."""
    return np.array([corner.split(",") for corner in corners.split()], float)


def ellipse(
    x: float, y: float, rx: float, ry: float, degrees: float = 0.0, corners: int = 28
) -> Points:
    """A turned ellipse around (x, y): (corners, 2)."""
    angle = np.linspace(0.0, 2 * np.pi, corners, endpoint=False)
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], 1) @ rotation(degrees) + [x, y]


def rotation(degrees: float) -> Points:
    """The matrix that turns row vectors: (2, 2)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, sin], [-sin, cos]])
