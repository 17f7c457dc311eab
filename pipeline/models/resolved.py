"""A resolved model: architecture, weights file, and all else that decides its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCAL = "local-dir:"
"""Prefix of a folder that holds configuration and weights, in the library's own layout."""

HUB = "hf-hub:"
"""Prefix of a repository of the Hugging Face hub with the same content as such a folder."""


@dataclass(frozen=True)
class Resolved:
    """Files and configuration of a model that can be built."""

    name: str
    """Name that the library builds: an architecture, or `local-dir:` with a full path."""
    architecture: dict[str, Any]
    """Configuration that decides the output, as JSON types."""
    file: Path | None
    """Weights file; None for random weights."""
    seed: int | None = None
    """Seed of random weights."""
    extra: tuple[Path, ...] = ()
    """Other files that decide the output, such as a tokenizer's."""

    def as_record(self) -> dict[str, Any]:
        """Return a record for `from_record`, as JSON types; unused for models of a folder."""
        file = str(self.file) if self.file else None
        return {
            "name": self.name,
            "architecture": self.architecture,
            "file": file,
            "seed": self.seed,
        }


def from_record(record: Any) -> Resolved | None:
    """Restore a model from its record.

    Returns None for a record of another form, or if the weights file is gone.
    """
    try:
        file = Path(record["file"]) if record["file"] else None
        resolved = Resolved(record["name"], record["architecture"], file, record["seed"])
    except (KeyError, TypeError):
        return None
    return None if file and not file.exists() else resolved
