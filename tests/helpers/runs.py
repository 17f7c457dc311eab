"""Helpers of most tests: a small dataset, runs on it, and the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.bench.fuzz import run_abs as said
from pipeline.bench.small import digests, write_dataset
from pipeline.bench.small import run_all_stages as make_all
from pipeline.run import Run

__all__ = [
    "DEMO", "ROOT", "Runner", "digests", "make_all", "said", "write_dataset",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "pipeline" / "demo"

Runner = Callable[..., Run]


def bytes_of_arrays(run: Run, name: str) -> int:
    """Return the bytes of the arrays that a stage of a run has written."""
    folder = run.store.artifact(run.named(name)[0]).path
    return sum(file.stat().st_size for file in folder.rglob("*.zarr/c/**/*") if file.is_file())
