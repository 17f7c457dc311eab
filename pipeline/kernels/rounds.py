"""Rounds of crops: how many are there after each, before an image may have settled.

Also holds what the rule assumes of them, since tables of settings are read without torch.
"""

from __future__ import annotations

FIRST = 8
"""Draws before the first look; fewer do not show how far they spread."""
GROWTH = 4
"""A round adds one draw to every `GROWTH` that are there."""
REACH = 0.5
"""Distance over which the correlation of draws falls to 1 / e, in extents of all draws."""
NUGGET = 0.02
"""Share of a draw's variance that has nothing to do with its place."""


def round_ends(count: int) -> list[int]:
    """Return the number of draws at the end of each round: 8, 10, 12, 15 and so on to `count`."""
    ends = [min(FIRST, count)]
    while ends[-1] < count:
        ends.append(min(count, ends[-1] + max(1, ends[-1] // GROWTH)))
    return ends


def looks(count: int) -> list[int]:
    """Return the numbers of draws after which a decision may be taken before all `count`."""
    return [end for end in round_ends(count) if FIRST <= end < count]
