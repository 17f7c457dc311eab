"""A model that can be built: the answer to which one is meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCAL = "local-dir:"
"""Prefix of a folder that holds configuration and weights, in the library's own layout."""


@dataclass(frozen=True)
class Resolved:
    """Where a model's parts lie, and what decides its output."""

    name: str
    """The name that the library builds: an architecture, or `local-dir:` with a full path."""
    architecture: dict[str, Any]
    file: Path | None
    """The weights; None for random ones."""
    seed: int | None = None
    extra: tuple[Path, ...] = ()
    """Other files that decide the output, such as a tokenizer's."""
