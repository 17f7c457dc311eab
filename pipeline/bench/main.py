"""Benchmark of every stage against a plain implementation: `abs bench`.

Both implementations run alternately in one process, and the result is the median of their ratios,
because seconds depend on the other load of the machine. Weights are random: times and agreement of
the vectors are measured, accuracy is not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.bench import builds
from pipeline.bench.case import CLIP, VIT, Case, N
from pipeline.bench.parts import cached, encoders, index, kernels, stages, store, together
from pipeline.bench.timing import Row, machine
from pipeline.core import files
from pipeline.core.progress import Reporter


class Part(StrEnum):
    """Names of the groups of comparisons; each is a file of `pipeline/bench/parts/`."""

    KERNELS = "kernels"
    STORE = "store"
    INDEX = "index"
    ENCODERS = "encoders"
    STAGES = "stages"
    TOGETHER = "together"
    CACHED = "cached"


PARTS: dict[Part, Callable[[Case, int], Iterator[Row]]] = {
    Part.KERNELS: kernels.rows,
    Part.STORE: store.rows,
    Part.INDEX: index.rows,
    Part.ENCODERS: encoders.rows,
    Part.STAGES: stages.rows,
    Part.TOGETHER: together.rows,
    Part.CACHED: cached.rows,
}


def main(
    images: Path, number: int, pairs: int, out: Path, parts: list[Part], other: Path | None
) -> None:
    """Run comparisons, print a Markdown table, and store it in `out` as .md and .parquet.

    Args:
        images: Folder of photographs.
        number: Number of images to process.
        pairs: Number of timings of both sides.
        out: Folder of the tables.
        parts: Which comparisons to run.
        other: Folder of another build's code, to compare raw crops with; None for none.
    """
    rows, reporter = [], Reporter()
    works = [PARTS[part] for part in parts] + ([partial(builds.rows, other)] if other else [])
    with tempfile.TemporaryDirectory() as folder:
        case = Case.of(Path(folder), images, number)
        for part in works:
            for row in part(case, pairs):
                reporter.say(f"{row.what}: {row.ratio:.2f}")
                rows.append(row)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame([{**asdict(row), **machine()} for row in rows])
    frame.to_parquet(out / f"{stamp}.parquet", index=False)
    text = markdown(rows, number, pairs)
    files.write_atomic(out / f"{stamp}.md", text.encode())
    print(text)


def markdown(rows: list[Row], number: int, pairs: int) -> str:
    """Format the table, below a line about models, counts and machine."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    head = f"{CLIP}, {VIT}, N = {N}, {number} images, medians of {pairs} pairs; {facts}.\n\n"
    table = "| what | ours | against | ratio | |\n|---|---|---|---|---|\n"
    cells = [
        (row.what, _clock(row.ours), _clock(row.against), f"{row.ratio:.2f}", row.note)
        for row in rows
    ]
    return head + table + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds * 1e3:.1f} ms"
