"""Places of labels on the outlines of boxes, away from each other and from other outlines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

Box = Sequence[float]
"""Left, top, right, bottom."""
Point = tuple[float, float]
STEPS = 8
"""Number of steps along a side of a box; a label may be placed at each."""


def label_places(boxes: Sequence[Box], size: tuple[int, int], radius: float) -> list[Point]:
    """Choose a place for each label on the outline of its box, away from labels and other boxes.

    Args:
        boxes: The boxes, within the image.
        size: Width and height of the image.
        radius: Radius of a label, in the unit of the boxes.
    """
    places: list[Point] = []
    for box in boxes:
        others = [other for other in boxes if list(other) != list(box)]
        clearance = partial(_clearance, places=places, others=others, radius=radius)
        places.append(max(_outline_points(box, size, radius), key=clearance))
    return places


def _outline_points(box: Box, size: tuple[int, int], radius: float) -> list[Point]:
    """List points on the outline of a box, moved so that a label there stays inside the image."""
    left, top, right, bottom = box
    points = []
    for share in (step / STEPS for step in range(STEPS + 1)):
        x, y = left + (right - left) * share, top + (bottom - top) * share
        points += [(x, top), (x, bottom), (left, y), (right, y)]
    inside = [min(max(x, radius), size[0] - radius) for x, _ in points]
    return [
        (x, min(max(y, radius), size[1] - radius)) for x, (_, y) in zip(inside, points, strict=True)
    ]


def _clearance(
    place: Point, places: Sequence[Point], others: Sequence[Box], radius: float
) -> float:
    """Measure the distance of a label to the other boxes' lines; negative if labels overlap.

    Distances above 1.25 radii count alike.
    """
    labels = [max(abs(place[0] - x), abs(place[1] - y)) for x, y in places]
    overlap = min([0.0, *(distance - 2.25 * radius for distance in labels)])
    lines = [_distance_to_line(place, other) for other in others]
    return overlap or min([1.25 * radius, *lines])


def _distance_to_line(place: Point, box: Box) -> float:
    (x, y), (left, top, right, bottom) = place, box
    return abs(max(left - x, x - right, top - y, y - bottom))
