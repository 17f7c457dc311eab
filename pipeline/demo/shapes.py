"""Filled polygons and the palette of the demo's scenes."""

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
    """A polygon (n, 2) filled with one colour; `part` is a part of the bird, or "" for clutter."""

    part: str
    colour: Colour
    points: Points


def colour(channels: NDArray[np.int64]) -> Colour:
    """Convert an array of three channels to a colour."""
    red, green, blue = channels.tolist()
    return red, green, blue


def tinted(rng: np.random.Generator, name: str) -> Colour:
    """Draw a tint of a palette colour: each channel is shifted by up to 14."""
    return colour(np.clip(np.array(PALETTE[name]) + rng.integers(-14, 15, 3), 0, 255))


def polygon(corners: str) -> Points:
    """Parse corners: "0,0 1,0 1,1" becomes an array (3, 2)."""
    return np.array([corner.split(",") for corner in corners.split()], float)


def ellipse(
    x: float, y: float, rx: float, ry: float, degrees: float = 0.0, corners: int = 28
) -> Points:
    """Approximate an ellipse around (x, y), rotated by `degrees`, as a polygon (corners, 2)."""
    angle = np.linspace(0.0, 2 * np.pi, corners, endpoint=False)
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], 1) @ rotation(degrees) + [x, y]


def rotation(degrees: float) -> Points:
    """Return the matrix (2, 2) that rotates row vectors by multiplication from the right."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, sin], [-sin, cos]])
