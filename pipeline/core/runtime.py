"""Settings of where and how fast work is done, and of the layout that work is divided into."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.core.section import NOT_IN_KEY, Section


class Runtime(Section):
    """Settings of execution, never part of a key; batch size may change values by rounding."""

    device: Annotated[str, NOT_IN_KEY, Field(pattern=r"^[a-z]+(:[0-9]+)?$")] = "auto"
    """`auto` for a GPU if there is one, `cpu`, `cuda`, `cuda:1` or another device of torch."""
    batch_size: Annotated[int | None, NOT_IN_KEY, Field(ge=1)] = None
    """Images in a model at once; None lets the device decide."""
    threads: Annotated[int | None, NOT_IN_KEY, Field(ge=1)] = None
    """Threads of torch; None leaves its default."""
    method_seconds: Annotated[bool, NOT_IN_KEY] = False
    """True to record the seconds that each method takes to score."""


BLOCK, SMALL_BLOCK = 10, 4
"""Crops per image in a unit, and in one of a small N."""


class Layout(Section):
    """Block sizes: a unit of work is one block of images, or of images times crops."""

    images: int = Field(default=128, ge=1)
    crops: int | None = Field(default=None, ge=1)
    """None for BLOCK, or SMALL_BLOCK where N is below twice BLOCK and no multiple of it."""
