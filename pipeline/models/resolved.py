"""A model that can be built: the answer to which one is meant."""

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
    """Where a model's parts lie, and what decides its output."""

    name: str
    """The name that the library builds: an architecture, or `local-dir:` with a full path."""
    architecture: dict[str, Any]
    file: Path | None
    """The weights; None for random ones."""
    seed: int | None = None
    extra: tuple[Path, ...] = ()
    """Other files that decide the output, such as a tokenizer's."""

    def note(self) -> dict[str, Any]:
        """What `recalled` needs, as JSON types; a model of a folder is read again instead."""
        file = str(self.file) if self.file else None
        return {
            "name": self.name,
            "architecture": self.architecture,
            "file": file,
            "seed": self.seed,
        }


def recalled(note: Any) -> Resolved | None:
    """The model of a note; None if the note is another's or the weights are gone."""
    try:
        file = Path(note["file"]) if note["file"] else None
        found = Resolved(note["name"], note["architecture"], file, note["seed"])
    except (KeyError, TypeError):
        return None
    return None if file and not file.exists() else found
