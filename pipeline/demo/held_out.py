"""Compare rated texts with ABS on worlds of the demo's generator that nothing was chosen on.

    python -m pipeline.demo.held_out FOLDER [--first SEED]

Twelve worlds of 96 pictures each: 12, 24 and 48 species, from easy to hard. Those that the method
was developed on have other seeds. The demo's models see all of them; labels are read by the
comparison alone. A second run only reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import typer

from pipeline.demo.settling import KINDS
from pipeline.demo.worlds import World
from pipeline.kernels.statistics import paired
from pipeline.run import Run

FIRST = 200
"""Seed of the first world; the others follow. Other seeds are other worlds."""
CLASSES = (12, 24, 48)
IMAGES = 96
"""Pictures of a world; the same number for each class."""
SETTINGS = ("scores.n=20", "scores.methods=[cupl, abs, rated-texts]", "scores.expectation=true")
MTA = (
    "scores.methods=[mta-crops]",
    "scores.expectation=false",
    "descriptions.clip={rule: same, of: cupl}",
)
COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CuPL": ("cupl", ()),
    "ABS": ("abs", ()),
    "ABS without soft matching": ("abs", ("scores.soft=false",)),
    "MTA on crops, with CuPL's sentences": ("mta-crops", MTA),
    "rated texts": ("rated-texts", ()),
}
"""Method and further settings of each column; the last is compared with the others."""

Correct = dict[str, np.ndarray]
"""Correctness of each image's prediction, bool (images,), by column of the table."""

app = typer.Typer(help=__doc__, add_completion=False)


def worlds(first: int = FIRST) -> list[World]:
    """Return the worlds from a seed on: every number of classes, of every kind."""
    cases = enumerate(product(CLASSES, KINDS))
    return [World(first + i, count, IMAGES // count, *kind) for i, (count, kind) in cases]


def scored(dataset: Path) -> Correct:
    """Score a world by the methods of all columns."""
    found = {}
    for name, (method, more) in COLUMNS.items():
        run = Run.of(str(dataset), "official", [*SETTINGS, *more])
        run.execute(run.stages, [], quiet=True)
        rows = run.store.open(run.named("scores")[0]).table("scores")
        found[name] = rows.loc[rows["method"] == method, "correct"].to_numpy(bool)
    return found


@app.command()
def main(folder: Path, first: int = FIRST) -> None:
    """Print top-1 of each world in percent, then the paired differences over all of them."""
    os.environ["ABS_ARTIFACTS"] = str(folder / "store")
    typer.echo(f"| world | classes | redrawn, wrong | {' | '.join(COLUMNS)} |")
    typer.echo("|---" * (3 + len(COLUMNS)) + "|")
    all_worlds = []
    for world in worlds(first):
        place = folder / f"{world.seed}"
        if not (place / "world.yaml").exists():
            world.write(place)
        all_worlds.append(scored(place / "world.yaml"))
        shares = (f"{100 * each.mean():.1f}" for each in all_worlds[-1].values())
        what = f"{world.seed} | {world.classes} | {world.redrawn}, {world.wrong}"
        typer.echo(f"| {what} | {' | '.join(shares)} |")
    typer.echo("\n".join(["", *differences(all_worlds)]))


def differences(found: list[Correct]) -> Iterator[str]:
    """Yield the difference of the last column from each other one, over all worlds."""
    *others, last = COLUMNS
    for other in others:
        ours, theirs = (np.concatenate([each[name] for each in found]) for name in (last, other))
        pair = paired(ours, theirs)
        better = sum(each[last].sum() > each[other].sum() for each in found)
        worse = sum(each[last].sum() < each[other].sum() for each in found)
        yield (
            f"{last} minus {other}: {100 * pair.difference:+.1f} points "
            f"({100 * pair.low:+.1f} to {100 * pair.high:+.1f}), McNemar's p = {pair.p:.1e}; "
            f"better in {better}, worse in {worse} of {len(found)} worlds"
        )


if __name__ == "__main__":
    app()
