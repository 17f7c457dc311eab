"""Labelled support sets: images of another split or dataset that a method may learn from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.core.section import MAX_SEED, NOT_IN_KEY, Section

SUPPORT = "support"
"""Name under which a method finds the support set among its texts: unit vectors by class."""


class SupportConfig(Section):
    """Labelled images that a method learns from, and how often it sees each."""

    dataset: Annotated[str | None, NOT_IN_KEY] = None
    """Dataset of the images, by name or YAML file; its classes have the names of those that are
    scored. It counts by its files.
    """
    shots: int = Field(default=16, ge=1, le=100_000)
    """Images of each class, drawn by `seed`; all of a class that has fewer."""
    passes: int = Field(default=10, ge=0, le=1000)
    """Random resized crops of each image, half of them flipped; 0 for the whole image once."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of images and crops."""
