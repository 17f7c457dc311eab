"""Raw crops of this build against those of another one, such as an older release.

Each turn is a process of a build's own `abs embeddings raw`, with the same interpreter, on the same
images and boxes. Its seconds are those of its units in the manifest, from files to stored vectors,
without loading.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import AbsError


@dataclass(frozen=True)
class Build:
    """A checkout of this project that encodes raw crops of a dataset in one precision."""

    code: Path
    """Folder that holds its package `pipeline`."""
    dataset: Path
    """YAML of the dataset."""
    precision: str
    store: Path
    """Folder of its artifacts."""

    def prepare(self) -> None:
        """Compute the stages that raw crops read."""
        for stage in ("index", "attention", "crops"):
            self._abs(stage)

    def seconds(self) -> float:
        """Encode all raw crops anew; return the seconds of reading, computing and writing."""
        self._abs("embeddings", "raw", "--force")
        manifests = self.store.glob("*/embeddings-raw/*/manifest.json")
        parts = [json.loads(manifest.read_bytes())["seconds"] for manifest in manifests]
        return sum(sum(part.values()) for part in parts)

    def _abs(self, *words: str) -> None:
        """Run a command of this build.

        Raises:
            AbsError: If it fails, with the last line that it printed.
        """
        settings = ["--dataset", str(self.dataset), "--set", f"clip.precision={self.precision}"]
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words, *settings, "--quiet"],
            cwd=self.code,
            env={**os.environ, "PYTHONPATH": str(self.code), "ABS_ARTIFACTS": str(self.store)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise AbsError(f"{self.code}: abs {' '.join(words)} failed: {last}")
