"""Attributes of the demo's birds, their values, and the body part that each one describes.

A bird is one value per attribute, in the order of `ATTRIBUTES`. Texts describe nothing else.
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
Statement = tuple[str, str]
"""An attribute and the value that a text gives it, true or not."""


def part_of(attribute: str) -> str:
    """Return the part that an attribute describes: "wing pattern" -> "wing"."""
    return attribute.split()[0]


def random_bird(rng: np.random.Generator) -> Bird:
    """Draw a bird whose attributes are independent and uniform."""
    return {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}


def differences(one: Bird, other: Bird) -> int:
    """Count the attributes in which two birds differ."""
    return sum(one[name] != other[name] for name in ATTRIBUTES)
