"""Damage files of a store, and find all damage with `abs verify`'s check."""

from __future__ import annotations

import random
from pathlib import Path

from pipeline.core.progress import Reporter
from pipeline.inspect.verify import Damage, VerifyReport
from pipeline.run import Run


def flip(path: Path, rng: random.Random) -> None:
    """Change one byte at a random offset."""
    content = bytearray(path.read_bytes())
    offset = rng.randrange(len(content))
    content[offset] = (content[offset] + rng.randrange(1, 256)) % 256
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """Truncate at a random offset."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def delete(path: Path, rng: random.Random) -> None:
    """Delete the file."""
    path.unlink()


def find_damage(run: Run) -> list[Damage]:
    """Find all damage in the store of a run."""
    report = VerifyReport()
    report.look([run.store], Reporter(True))
    return report.damage
