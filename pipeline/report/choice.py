"""Choice of the images of a report: errors, helped and harmed ones, and a stratified sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.datasets.image_ids import find_image

if TYPE_CHECKING:
    import pandas as pd

GROUPS = {
    "errors": "most confident errors",
    "helped": "most helped",
    "harmed": "most harmed",
    "sample": "random sample",
    "chosen": "chosen",
}
"""Groups of images, each with its heading."""


@dataclass(frozen=True)
class Choice:
    """Images that a report shows."""

    images: Sequence[str] = ()
    """Numbers, paths or ends of paths; these only, if any are given."""
    classes: Sequence[str] = ()
    """Names of the classes that others are chosen from; of all, if none is given."""
    errors: bool = False
    """True if only errors of the method are shown."""
    count: int = 12
    """Images of each group."""


def choose(
    choice: Choice,
    ids: Sequence[str],
    mine: pd.DataFrame,
    other: pd.DataFrame,
    names: Sequence[str],
) -> dict[int, list[str]]:
    """Return the numbers of the images to show, each with its groups of `GROUPS`.

    Args:
        choice: What was asked for.
        ids: Image ids of the index.
        mine: Scores of the method that is looked at, a row per image.
        other: Scores of the method that it is compared with.
        names: Names of the classes, by label.

    Raises:
        ConfigError: For an image or a class that is not there, or if no image is left.
    """
    if choice.images:
        return {find_image(ids, image): ["chosen"] for image in choice.images}
    allowed = _allowed(choice, mine, names)
    if not allowed.any():
        raise ConfigError("no image is left to show; choose other classes, or leave out --errors")
    found: dict[int, list[str]] = {}
    for group, rows in _groups(choice.count, mine, other, allowed).items():
        for row in rows:
            found.setdefault(int(row), []).append(group)
    return found


def _allowed(choice: Choice, mine: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    allowed = np.ones(len(mine), dtype=bool)
    if choice.classes:
        if unknown := [name for name in choice.classes if name not in names]:
            raise ConfigError(f"no class {unknown[0]!r}; {did_you_mean(unknown[0], names)}")
        labels = [label for label, name in enumerate(names) if name in choice.classes]
        allowed &= mine["label"].isin(labels).to_numpy()
    if choice.errors:
        allowed &= ~mine["correct"].to_numpy()
    return allowed


def _groups(
    count: int, mine: pd.DataFrame, other: pd.DataFrame, allowed: np.ndarray
) -> dict[str, np.ndarray]:
    """Choose the images of each group, the clearest first."""
    right, confidence = mine["correct"].to_numpy(), mine["confidence"].to_numpy()
    theirs, margin = other["correct"].to_numpy(), mine["margin"].to_numpy()
    return {
        "errors": _first(-confidence, allowed & ~right, count),
        "helped": _first(-margin, allowed & right & ~theirs, count),
        "harmed": _first(margin, allowed & ~right & theirs, count),
        "sample": _stratified(mine["label"].to_numpy(), allowed, count),
    }


def _first(order: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the lowest values among those allowed."""
    places = np.flatnonzero(allowed)
    return places[np.argsort(order[places], kind="stable")[:count]]


def _stratified(labels: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Draw images with one seed: one of each class, in random order, before a second one."""
    places = np.random.default_rng(0).permutation(np.flatnonzero(allowed))
    turns = np.zeros(len(places), dtype=int)
    seen: dict[int, int] = {}
    for i, label in enumerate(labels[places].tolist()):
        turns[i] = seen[label] = seen.get(label, -1) + 1
    return np.sort(places[np.argsort(turns, kind="stable")[:count]])
