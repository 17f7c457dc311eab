"""Settings of where and how fast work is done, and of the layout that work is divided into."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.core.section import NOT_IN_KEY, Section


class Runtime(Section):
    """Settings of execution, never part of a key; batch size may change values by rounding."""

    device: Annotated[str, NOT_IN_KEY] = "auto"
    batch_size: Annotated[int, NOT_IN_KEY, Field(ge=0)] = 0
    """Images in a model at once; 0 lets the device decide."""
    threads: Annotated[int, NOT_IN_KEY, Field(ge=0)] = 0
    """Threads of torch; 0 leaves its default."""


class Layout(Section):
    """Block sizes: a unit of work is one block of images, or of images times crops."""

    images: int = Field(default=128, ge=1)
    crops: int = Field(default=10, ge=1)
