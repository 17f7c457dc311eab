"""Print the demo's results: all methods, ABS's components, three profiles, five seeds.

    python -m pipeline.demo.table

The seed determines crops, squares, WCA's choice among them and Waffle's noise. Artifacts are kept
in the store: rows share them where they can, and a second run only reads.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pipeline.core.progress import Reporter
from pipeline.run import Run
from pipeline.stage import needed
from pipeline.studies import paper
from pipeline.studies.experiments import SEEDED

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
    """Compute top-1 accuracy in percent by row, one value per seed; None if a row is undefined."""
    column: dict[str, list[float | None]] = {}
    for seed in SEEDS:
        overrides = [f"descriptions.cupl.file={prompts}", *(f"{name}={seed}" for name in SEEDED)]
        for row, value in _rows(profile, overrides):
            column.setdefault(row, []).append(value)
    return column


def _rows(profile: str, overrides: list[str]) -> Iterator[tuple[str, float | None]]:
    """Yield each row's name and accuracy; the expectation is defined for square windows only."""
    accuracies = _top1(profile, overrides)
    yield from ((name, accuracies[method]) for method, name in METHODS.items())
    abs_only = [*overrides, "scores.methods=[abs]"]
    square = Run.of("demo", profile, overrides).settings.windows.shape == "square"
    expected = [*abs_only, "scores.expectation=true"]
    yield EXPECTED, _top1(profile, expected)["abs"] if square else None
    for switches in product((False, True), repeat=3):
        parts = dict(zip(("raw", "feature", "soft"), switches, strict=True))
        settings = [f"scores.{part}={on}" for part, on in parts.items()]
        yield _component(parts), _top1(profile, [*abs_only, *settings])["abs"]


def _component(parts: dict[str, bool]) -> str:
    names = {"raw": "raw crops", "feature": "feature crops", "soft": "soft matching"}
    on = [names[part] for part in parts if parts[part]]
    return f"ABS's parts: {', '.join(on) or 'none'}"


def _top1(profile: str, overrides: list[str]) -> dict[str, float]:
    run = Run.of("demo", profile, overrides)
    metrics = run.stages[-1]
    run.execute(needed([metrics], run.stages), [], quiet=True)
    table = run.store.open(metrics).table("metrics")
    accuracies = dict(zip(table["method"], 100 * table["top1"], strict=True))
    shown = ", ".join(f"{method} {value:.2f}" for method, value in accuracies.items())
    Reporter().say(f"{profile} {' '.join(overrides[1:])}: {shown}")
    return accuracies


def _cell(values: list[float | None]) -> str:
    """Format the mean over the seeds, with its standard error unless all seeds agree."""
    defined = [value for value in values if value is not None]
    if not defined:
        return "n/a"
    error = statistics.stdev(defined) / math.sqrt(len(defined))
    return f"{statistics.mean(defined):.1f}" + (f" ± {error:.1f}" if error else "")


if __name__ == "__main__":
    main()
