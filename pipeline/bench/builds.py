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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.bench.case import Case
from pipeline.bench.timing import Row, in_turns
from pipeline.core.errors import AbsError
from pipeline.core.paths import PROJECT
from pipeline.models.precision import best


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


def rows(other: Path, case: Case, pairs: int) -> Iterator[Row]:
    """Compare raw crops, from files, with another build of this project."""
    for precision in dict.fromkeys(("float32", best("auto")[0])):
        ours, against = (
            Build(code, case.folder / "bench.yaml", precision, case.folder / f"{name}-{precision}")
            for name, code in (("this", PROJECT), ("other", other.resolve()))
        )
        for each in (ours, against):
            each.prepare()
        what = f"embeddings-raw, {precision}, from files, against another build"
        yield in_turns(what, ours.seconds, against.seconds, pairs)
