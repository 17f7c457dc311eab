"""Comparison of a run that has nothing to do, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from pipeline.bench.case import Case
from pipeline.bench.timing import Row, Work, compare


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare a run whose stages are all finished with importing pandas and typer."""
    environment = {**os.environ, "ABS_ARTIFACTS": str(case.folder / "float32")}
    words = ["run", "--dataset", str(case.folder / "bench.yaml")]
    words += ["--set", "windows.encode=drawn", "--set", "scores.methods=[clip,cupl,abs]"]

    def process(*command: str) -> Work:
        return lambda: subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, check=True
        )

    yield compare(
        "a run with nothing to do, against importing pandas and typer",
        process("-m", "pipeline", *words),
        process("-c", "import pandas, typer"),
        pairs,
    )
