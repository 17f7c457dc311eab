"""Outlines of a bird that faces right: origin at its middle, y downwards, about two units long."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.demo.attributes import Bird
from pipeline.demo.shapes import INK, PALETTE, Colour, Shape, ellipse, polygon, rotation, tinted

NECK = polygon("0.12,-0.2 0.36,-0.42 0.58,-0.28 0.4,0.08")
BAND = polygon("0.17,-0.3 0.27,-0.4 0.56,-0.14 0.46,-0.03")
TAILS = {
    "pointed": [polygon("-0.3,-0.06 -0.34,0.2 -1.05,0.24")],
    "fanned": [
        polygon("-0.3,0.02 -0.34,0.16 -0.74,0.5 -0.9,0.3 -0.94,0.06 -0.88,-0.18 -0.72,-0.34")
    ],
    "forked": [
        polygon("-0.28,-0.04 -1.0,-0.24 -0.56,0.11 -0.32,0.2"),
        polygon("-0.28,-0.04 -0.92,0.46 -0.56,0.11 -0.32,0.2"),
    ],
}
BILLS = {
    "short": polygon("0.6,-0.54 0.84,-0.4 0.6,-0.3"),
    "long": polygon("0.62,-0.5 1.2,-0.36 0.62,-0.34"),
    "hooked": polygon("0.6,-0.56 0.82,-0.53 0.96,-0.4 0.94,-0.16 0.84,-0.32 0.6,-0.3"),
}
CRESTS = {
    "no": [],
    "spiky": [
        polygon("0.57,-0.58 0.52,-0.92 0.43,-0.52"),
        polygon("0.47,-0.58 0.3,-0.9 0.33,-0.52"),
        polygon("0.39,-0.52 0.1,-0.76 0.25,-0.46"),
    ],
    "round": [ellipse(0.38, -0.68, 0.17, 0.14, 30)],
}
FEET = {"short": 0.46, "long": 0.86}
BARS = (-0.19, -0.06, 0.07, 0.2)
SPOTS = polygon("-0.2,0 -0.07,-0.09 -0.07,0.09 0.07,-0.09 0.07,0.09 0.2,0")


def bird_shapes(rng: np.random.Generator, bird: Bird) -> Iterator[Shape]:
    """Yield the bird's shapes from back to front; draws its tints, girth and wing angle."""
    body, head, wing = (tinted(rng, bird[f"{part} colour"]) for part in ("body", "head", "wing"))
    yield from _legs(bird["leg length"], tinted(rng, bird["leg colour"]))
    tail = tinted(rng, bird["tail colour"])
    yield from (Shape("tail", tail, points) for points in TAILS[bird["tail shape"]])
    girth = rng.uniform(0.9, 1.12)
    yield Shape("collar", body, NECK)
    yield Shape("body", body, ellipse(0.0, 0.0, 0.46, 0.29 * girth, -18))
    if bird["collar"] != "no":
        yield Shape("collar", tinted(rng, bird["collar"]), BAND)
    on_pale = bird["wing colour"] in ("yellow", "white")
    yield from _wing(rng, bird["wing pattern"], wing, PALETTE["black" if on_pale else "white"])
    yield from (Shape("crest", head, points) for points in CRESTS[bird["crest"]])
    yield Shape("bill", tinted(rng, bird["bill colour"]), BILLS[bird["bill shape"]])
    yield Shape("head", head, ellipse(0.46, -0.42, 0.22, 0.2, -10))
    yield Shape("eye", tinted(rng, bird["eye"]), ellipse(0.52, -0.46, 0.085, 0.085, corners=16))
    pupil = PALETTE["black"] if bird["eye"] == "black" else INK
    yield Shape("eye", pupil, ellipse(0.535, -0.46, 0.035, 0.035, corners=10))


def _legs(length: str, colour: Colour) -> Iterator[Shape]:
    foot = FEET[length]
    leg = [(0, 0.2), (0.09, 0.2), (0.09, foot - 0.07), (0.24, foot), (-0.02, foot)]
    for x in (-0.08, 0.12):
        yield Shape("leg", colour, np.add(leg, (x, 0)))


def _wing(rng: np.random.Generator, pattern: str, colour: Colour, ink: Colour) -> Iterator[Shape]:
    lift, centre = rng.uniform(-24, -8), np.array([-0.1, -0.02])
    yield Shape("wing", colour, ellipse(centre[0], centre[1], 0.33, 0.2, lift))
    turn = rotation(lift)
    if pattern == "striped":
        for x in BARS:
            half = 0.2 * np.sqrt(1 - (x / 0.33) ** 2) * 0.88
            bar = np.array([(-0.032, -half), (0.032, -half), (0.032, half), (-0.032, half)])
            yield Shape("wing", ink, np.add(bar, (x, 0)) @ turn + centre)
    elif pattern == "spotted":
        for x, y in SPOTS @ turn + centre:
            yield Shape("wing", ink, ellipse(x, y, 0.052, 0.052, corners=10))
