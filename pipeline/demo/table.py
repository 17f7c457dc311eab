"""The demo's table: all methods, the components of ABS, the three profiles, over five seeds.

    python -m pipeline.demo.table

A seed draws crops, squares, WCA's choice among them and Waffle's noise. Everything goes through the
store, so that rows share what they can, and a second run only reads.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pipeline import paper
from pipeline.commands import Run
from pipeline.experiments import SEEDED
from pipeline.progress import Reporter
from pipeline.run import needed

PROMPTS = Path(__file__).parent / "prompts"
DESCRIPTIONS = {"a quarter of them wrong": "cupl.json", "none wrong": "cupl-clean.json"}
PROFILES = ("official", "paper", "aligned")
SEEDS = range(5)
METHODS = {**paper.METHODS, "abs": "**ABS**"}
EXPECTED = "ABS, feature branch in expectation"

Rows = dict[str, float | None]


def main() -> None:
    """Print one table in Markdown for each set of descriptions."""
    for wrong, file in DESCRIPTIONS.items():
        columns = [_column(profile, PROMPTS / file) for profile in PROFILES]
        print(
            f"\n| descriptions: {wrong} | {' | '.join(PROFILES)} |\n|---|{'---|' * len(PROFILES)}"
        )
        for row in columns[0]:
            print(f"| {row} | {' | '.join(_cell(column[row]) for column in columns)} |")


def _column(profile: str, prompts: Path) -> dict[str, list[float | None]]:
    """Top-1 in percent by row, a value per seed."""
    column: dict[str, list[float | None]] = {}
    for seed in SEEDS:
        changes = [f"descriptions.cupl.file={prompts}", *(f"{name}={seed}" for name in SEEDED)]
        for row, value in _rows(profile, changes):
            column.setdefault(row, []).append(value)
    return column


def _rows(profile: str, changes: list[str]) -> Iterator[tuple[str, float | None]]:
    found = _top1(profile, changes)
    yield from ((name, found[method]) for method, name in METHODS.items())
    alone = [*changes, "scores.methods=[abs]"]
    can = Run.of("demo", profile, changes).settings.windows.shape == "square"
    yield EXPECTED, _top1(profile, [*alone, "scores.expectation=true"])["abs"] if can else None
    for switches in product((False, True), repeat=3):
        parts = dict(zip(("raw", "feature", "soft"), switches, strict=True))
        settings = [f"scores.{part}={on}" for part, on in parts.items()]
        yield _component(parts), _top1(profile, [*alone, *settings])["abs"]


def _component(parts: dict[str, bool]) -> str:
    names = {"raw": "raw crops", "feature": "feature crops", "soft": "soft matching"}
    on = [names[part] for part in parts if parts[part]]
    return f"ABS's parts: {', '.join(on) or 'none'}"


def _top1(profile: str, changes: list[str]) -> dict[str, float]:
    run = Run.of("demo", profile, changes)
    metrics = run.stages[-1]
    run.execute(needed([metrics], run.stages), [], quiet=True)
    table = run.store.open(metrics).table("metrics")
    found = dict(zip(table["method"], 100 * table["top1"], strict=True))
    shown = ", ".join(f"{method} {value:.2f}" for method, value in found.items())
    Reporter().say(f"{profile} {' '.join(changes[1:])}: {shown}")
    return found


def _cell(values: list[float | None]) -> str:
    """Mean over the seeds, and its standard error where they differ."""
    known = [value for value in values if value is not None]
    if not known:
        return "n/a"
    error = statistics.stdev(known) / math.sqrt(len(known))
    return f"{statistics.mean(known):.1f}" + (f" ± {error:.1f}" if error else "")


if __name__ == "__main__":
    main()
