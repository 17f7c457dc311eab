"""A resolved model: architecture, weights file, and all else that decides its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files

LOCAL = "local-dir:"
"""Prefix of a folder that holds configuration and weights, in the library's own layout."""

HUB = "hf-hub:"
"""Prefix of a repository of the Hugging Face hub with the same content as such a folder."""

BESIDE = ("*.json", "merges.txt*")
"""Files beside weights that may decide what they are."""


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
    note: str = ""
    """Assumption, in one line, where no configuration decides; empty if there is none."""

    def as_record(self) -> dict[str, Any]:
        """Return a record for `from_record`, as JSON types."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "file": str(self.file) if self.file else None,
            "seed": self.seed,
            "extra": [str(path) for path in self.extra],
            "note": self.note,
            "versions": _versions(self.file),
        }


def is_file_name(weights: str) -> bool:
    """Return whether the setting `weights` is written as a file, which no tag is."""
    return "/" in weights or "." in weights


def from_record(record: Any) -> Resolved | None:
    """Restore a model from its record.

    Returns None for a record of another form, or if the weights file, or a configuration beside it,
    is not as it was.
    """
    try:
        file = Path(record["file"]) if record["file"] else None
        extra = tuple(map(Path, record["extra"]))
        parts = record["name"], record["architecture"], file, record["seed"], extra, record["note"]
        return Resolved(*parts) if record["versions"] == _versions(file) else None
    except (KeyError, TypeError):
        return None


def _versions(weights: Path | None) -> dict[str, list[int]]:
    """Return the versions of a weights file, and of configurations and merges beside it."""
    beside = [path for kind in BESIDE for path in weights.parent.glob(kind)] if weights else []
    found = [weights, *beside] if weights else []
    return {str(path): files.version_of(path) for path in found if path.is_file()}
