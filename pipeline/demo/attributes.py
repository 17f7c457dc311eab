"""What a bird of the demo's world can look like: attributes, their values, and the part each lies
on.

A bird is one value per attribute, in the order of `ATTRIBUTES`; nothing else about it is ever
described in words.
"""

from __future__ import annotations

import numpy as np

COLOURS = ("red", "yellow", "green", "blue", "black", "white")
LIMB_COLOURS = ("red", "yellow", "blue", "black")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "body colour": COLOURS,
    "head colour": COLOURS,
    "wing colour": COLOURS,
    "wing pattern": ("plain", "striped", "spotted"),
    "tail colour": COLOURS,
    "tail shape": ("fanned", "pointed", "forked"),
    "bill colour": LIMB_COLOURS,
    "bill shape": ("short", "long", "hooked"),
    "leg colour": LIMB_COLOURS,
    "leg length": ("short", "long"),
    "crest": ("no", "spiky", "round"),
    "collar": ("no", "white", "black"),
    "eye": ("white", "yellow", "black"),
}
PARTS = ("body", "head", "wing", "tail", "bill", "leg", "crest", "collar", "eye")

Bird = dict[str, str]
Claim = tuple[str, str]
"""An attribute and the value it is said to have."""


def part_of(attribute: str) -> str:
    """The part an attribute lies on: "wing pattern" -> "wing"."""
    return attribute.split()[0]


def random_bird(rng: np.random.Generator) -> Bird:
    """A bird whose attributes are drawn independently and uniformly."""
    return {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}


def differences(one: Bird, other: Bird) -> int:
    """The number of attributes in which two birds differ."""
    return sum(one[name] != other[name] for name in ATTRIBUTES)
