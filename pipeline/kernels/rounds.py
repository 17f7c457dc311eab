"""Rounds of crops: how many are there after each, before an image may have settled."""

from __future__ import annotations

FIRST = 8
"""Draws before the first look; fewer do not show how far they spread."""
STEP = 4
"""Draws between two looks."""


def round_ends(count: int) -> list[int]:
    """Return the number of draws at the end of each round: 8, 12, 16 and so on up to `count`."""
    return [*range(min(FIRST, count), count, STEP), count]


def looks(count: int) -> list[int]:
    """Return the numbers of draws after which a decision may be taken before all `count`."""
    return [end for end in round_ends(count) if FIRST <= end < count]
