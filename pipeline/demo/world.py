"""Draw scenes: one bird, seen from the side, on a cluttered background.

A scene depends on its random generator, its bird and its size alone. Picture and part map are drawn
from the same polygons, so the map gives the part that is visible at each pixel. Clutter uses the
birds' palette, so that colour alone does not locate the bird.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.demo.anatomy import bird_shapes
from pipeline.demo.attributes import PARTS, Bird
from pipeline.demo.shapes import (
    INK,
    PALETTE,
    Colour,
    Points,
    Shape,
    colour,
    ellipse,
    polygon,
    rotation,
    tinted,
)

SUPERSAMPLING = 2
OBJECT_SIDE = (0.45, 0.85)
"""Range of the bird's longer extent, as a share of the picture's shorter side."""
DISTRACTORS = (12, 26)
"""Range of the number of distractors, upper end excluded."""


@dataclass(frozen=True)
class Scene:
    """A picture, and the part of the bird at each of its pixels."""

    image: Image.Image
    parts: NDArray[np.uint8]
    """(height, width): 0 for background, i for PARTS[i - 1]"""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask of the bird: (height, width)."""
        return self.parts > 0


def draw_scene(rng: np.random.Generator, bird: Bird, size: tuple[int, int]) -> Scene:
    """Draw `bird` at a random place in a picture of `size` = (width, height)."""
    shapes = [*_clutter(rng, size), *_placed(rng, list(bird_shapes(rng, bird)), size)]
    light = rng.uniform(0.8, 1.1)
    canvas = Image.new("RGB", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    parts = Image.new("L", size)
    pen, part_pen = ImageDraw.Draw(canvas), ImageDraw.Draw(parts)
    for shape in shapes:
        outline = INK if shape.part else None
        corners = (shape.points * SUPERSAMPLING).ravel().tolist()
        pen.polygon(corners, fill=_lit(shape.colour, light), outline=outline)
        if shape.part:
            part_pen.polygon(shape.points.ravel().tolist(), fill=1 + PARTS.index(shape.part))
    return Scene(canvas.reduce(SUPERSAMPLING), np.asarray(parts))


def _lit(colour: Colour, light: float) -> Colour:
    red, green, blue = (min(255, round(channel * light)) for channel in colour)
    return red, green, blue


def _placed(rng: np.random.Generator, shapes: list[Shape], size: tuple[int, int]) -> list[Shape]:
    """Rotate, mirror and scale the shapes, and place them inside the picture.

    Places near the middle are more likely.
    """
    turn = rotation(rng.uniform(-12, 12)) * [rng.choice([-1.0, 1.0]), 1.0]
    turned = [shape.points @ turn for shape in shapes]
    low, high = np.concatenate(turned).min(0), np.concatenate(turned).max(0)
    scale = rng.uniform(*OBJECT_SIDE) * min(size) / (high - low).max()
    shift = rng.beta(2.0, 2.0, 2) * (np.array(size) - (high - low) * scale) - low * scale
    return [
        Shape(shape.part, shape.colour, points * scale + shift)
        for shape, points in zip(shapes, turned, strict=True)
    ]


def _clutter(rng: np.random.Generator, size: tuple[int, int]) -> Iterator[Shape]:
    """Yield the shapes of sky, ground and distractors."""
    horizon = rng.uniform(0.35, 0.8)
    for top in (0.0, horizon):
        band = polygon(f"0,{top} 1,{top} 1,1 0,1")
        yield Shape("", colour(rng.integers(70, 190, 3)), band * size)
    for _ in range(rng.integers(*DISTRACTORS)):
        centre = rng.uniform(0, 1, 2) * size
        span = rng.uniform(0.03, 0.16, 2) * min(size)
        yield from _distractor(rng, centre, span)


def _distractor(rng: np.random.Generator, centre: Points, span: Points) -> Iterator[Shape]:
    """Yield a blob, a bar, a shard, or a blob with dots or bars that resembles a wing."""
    fill = tinted(rng, str(rng.choice(list(PALETTE))))
    turn = rotation(rng.uniform(0, 360))
    kind = rng.choice(["blob", "bar", "shard", "dotted"])
    if kind == "bar":
        corners = polygon("-1.6,-0.3 1.6,-0.3 1.6,0.3 -1.6,0.3")
    elif kind == "shard":
        corners = rng.uniform(-1.2, 1.2, (3, 2))
    else:
        corners = ellipse(0, 0, 1, 1, corners=14)
    yield Shape("", fill, corners * span @ turn + centre)
    if kind == "dotted":
        ink = tinted(rng, str(rng.choice(["white", "black"])))
        for x in (-0.5, 0.0, 0.5):
            dot = ellipse(x, 0, 0.15, rng.choice([0.2, 0.6]), corners=8)
            yield Shape("", ink, dot * span @ turn + centre)
