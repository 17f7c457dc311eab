"""The README's table: `python -m pipeline.demo.table`.

Top-1 of every method on the demo, and of each component of ABS alone, over seeds of the crops. The
embeddings of a seed are made once and scored for every row.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from pipeline.commands import Run
from pipeline.progress import Reporter
from pipeline.run import needed

PROMPTS = Path(__file__).parent / "prompts"
SEEDS = range(5)
COMPONENTS = {
    "raw crops": (True, False, False),
    "feature crops": (False, True, False),
    "soft matching of the whole image": (False, False, True),
    "raw and feature crops": (True, True, False),
    "raw crops, soft": (True, False, True),
    "feature crops, soft": (False, True, True),
    "**ABS**: all three": (True, True, True),
}


def main() -> None:
    """Print the table in Markdown: mean over seeds, and their standard deviation."""
    columns = [_column(PROMPTS / name) for name in ("cupl.json", "cupl-clean.json")]
    print("| | a quarter of the descriptions wrong | none wrong |\n|---|---|---|")
    for row in columns[0]:
        print(f"| {row} | {' | '.join(_cell(column[row]) for column in columns)} |")


def _column(prompts: Path) -> dict[str, list[float]]:
    """Top-1 by row, a value per seed."""
    column: dict[str, list[float]] = {}
    for seed in SEEDS:
        for row, value in _seed(prompts, seed):
            column.setdefault(row, []).append(value)
    return column


def _seed(prompts: Path, seed: int) -> Iterator[tuple[str, float]]:
    settings = [f"descriptions.cupl.file={prompts}", f"crops.seed={seed}"]
    for row, switches in COMPONENTS.items():
        parts = zip(("raw", "feature", "soft"), switches, strict=True)
        found = _top1([*settings, *(f"scores.{part}={on}" for part, on in parts)])
        if row == next(iter(COMPONENTS)):
            yield from (("CLIP", found["clip"]), ("CuPL", found["cupl"]))
        yield row, found["abs"]


def _top1(changes: list[str]) -> dict[str, float]:
    run = Run.of("demo", "official", changes)
    stages = needed([run.stages[-1]], run.stages)
    run.execute(stages, [], quiet=True)
    table = run.store.open(stages[-1]).table("metrics")
    Reporter().say(f"{' '.join(changes)}: {table['top1'].round(4).tolist()}")
    return dict(zip(table["method"], 100 * table["top1"], strict=True))


def _cell(values: list[float]) -> str:
    spread = statistics.stdev(values)
    return f"{statistics.mean(values):.1f}" + (f" ± {spread:.1f}" if spread else "")


if __name__ == "__main__":
    main()
