"""Test the promise of settling on new worlds of the demo's generator, and on simulated scores.

    python -m pipeline.demo.settling worlds FOLDER      # 20 worlds, 10,080 images
    python -m pipeline.demo.settling simulated

Worlds are drawn with seeds of their own, and the demo's models see them: all N raw crops of every
image are encoded, the feature branch is in expectation. Settling is then replayed from the stored
vectors, in the order of the draws and in others: draws are independent, so that each order is as
probable. A one-sided binomial test says whether more decisions differ than promised. Encoding all
crops of all worlds takes hours on two cores; a second run continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import stats

from pipeline.demo.worlds import World
from pipeline.kernels.rounds import looks
from pipeline.kernels.settling import Tail, bernstein, change_bound, student
from pipeline.kernels.statistics import wilson
from pipeline.methods.abs import Abs
from pipeline.methods.base import MethodInputs, ViewVectors
from pipeline.run import Run
from pipeline.texts.vectors import text_vectors
from pipeline.views.readers import view_reader
from stages.scores import Scores

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

CLASSES = (24, 48, 96, 144, 200)
KINDS = ((5, 0.0), (5, 0.25), (4, 0.25), (3, 0.25))
"""Attributes that a species draws anew, and share of wrong descriptions: from easy to hard."""
IMAGES = 504
"""Images of a world, at least; the same number for each class."""
SETTINGS = ("scores.expectation=true",)

Rng = np.random.Generator


def worlds() -> list[World]:
    """Return the worlds: every number of classes, of every kind."""
    cases = [(classes, kind) for kind in KINDS for classes in CLASSES]
    return [
        World(seed, classes, -(-IMAGES // classes), *kind)
        for seed, (classes, kind) in enumerate(cases)
    ]


@dataclass
class Replay:
    """Outcome of settling for some images."""

    used: np.ndarray
    """Draws of each image, int64 (images,)."""
    decided: np.ndarray
    """Class that each image was given, int64 (images,)."""
    final: np.ndarray
    """Class that all draws give, int64 (images,)."""

    @property
    def wrong(self) -> int:
        """Number of images whose class differs."""
        return int((self.decided != self.final).sum())


def replay(scores: torch.Tensor, others: torch.Tensor, p: float, tail: Tail = student) -> Replay:
    """Take the draws of each image until it has settled.

    Args:
        scores: Class scores of all draws, (images, N, classes).
        others: Class scores apart from draws, (images, classes).
        p: Bound at which an image has settled.
        tail: Bound for one class at one look.
    """
    count = scores.shape[1]
    final = (others + scores.sum(dim=1)).argmax(dim=1).numpy()
    used, decided = np.full(len(scores), count), final.copy()
    left = np.arange(len(scores))
    for n in looks(count):
        bounds = change_bound(scores[left, :n], others[left], count, tail=tail).numpy()
        mean = scores[left, :n].mean(dim=1) * count + others[left]
        stop = bounds <= p
        used[left[stop]], decided[left[stop]] = n, mean.argmax(dim=1).numpy()[stop]
        left = left[~stop]
    return Replay(used, decided, final)


def class_scores(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Score every raw crop, (images, N, classes), and the feature branch, (images, classes)."""
    (stage,) = run.named("scores")
    assert isinstance(stage, Scores)
    classes = len(stage.classes.present)
    texts = {n: text_vectors(run.store.open(t), classes) for n, t in stage.texts.items()}
    score = Abs().view_scorer(MethodInputs(texts, stage.config))
    whole = slice(0, run.store.rows(stage.index))
    read = {
        name: view_reader(run.store, name, view, stage.drawn, stage.config, stage.config.n).read(
            whole
        )
        for name, view in stage.views.items()
    }
    raw, (feature, weights) = torch.from_numpy(read["raw"][0]).float(), read["feature"]
    assert weights is not None
    one_by_one = score(ViewVectors(raw.flatten(0, 1)[:, None])).unflatten(0, raw.shape[:2])
    views = ViewVectors(torch.from_numpy(feature).float(), torch.from_numpy(weights).float())
    return one_by_one, score(views)


def orders(scores: torch.Tensor, count: int) -> Iterator[torch.Tensor]:
    """Yield the draws of each image in their own order, then in others."""
    yield scores
    for seed in range(1, count):
        random = np.random.default_rng(seed).random(scores.shape[:2])
        order = torch.from_numpy(random.argsort(axis=1))
        yield scores.gather(1, order[:, :, None].expand_as(scores))


@app.command(name="worlds")
def on_worlds(
    folder: Path,
    p: float = 0.001,
    repeats: Annotated[int, typer.Option(help="Orders of the draws of each image.")] = 20,
    first: Annotated[int, typer.Option(help="Number of the first world.")] = 0,
    last: Annotated[int, typer.Option(help="Number of the last world.")] = 19,
    images: Annotated[int | None, typer.Option(help="Images of a class.")] = None,
) -> None:
    """Print the outcome on each world, and whether the promise holds on all of them."""
    os.environ["ABS_ARTIFACTS"] = str(folder / "store")
    typer.echo(
        "| world | classes | redrawn, wrong | images | top-1 | crops | same | orders: same |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|")
    counts = np.zeros(4, int)
    for world in worlds()[first : last + 1]:
        world = World(**{**vars(world), "images": images or world.images})
        row, found = _on_world(world, folder, p, repeats)
        typer.echo(row)
        counts += found
    _say_whether_it_holds("the order of the draws", counts[0], counts[1], p)
    _say_whether_it_holds(f"{repeats} orders", counts[2], counts[3], p)


def _on_world(world: World, folder: Path, p: float, repeats: int) -> tuple[str, np.ndarray]:
    """Return a row of the table; wrong and all images, in their order and in all orders."""
    place = folder / f"{world.seed:02d}"
    dataset = place / "world.yaml"
    if not dataset.exists():
        world.write(place)
    run = Run.of(str(dataset), "official", SETTINGS)
    run.execute(run.stages, [], quiet=True)
    scores, others = class_scores(run)
    found = [replay(order, others, p) for order in orders(scores, repeats)]
    own, all_of_them = found[0], len(found) * len(scores)
    wrong = sum(each.wrong for each in found)
    top1 = run.store.open(run.named("metrics")[0]).table("metrics")["top1"][0]
    cells = (
        f"{world.seed}", f"{world.classes}", f"{world.redrawn}, {world.wrong}", f"{len(scores)}",
        f"{100 * top1:.1f}", f"{np.mean([each.used.mean() for each in found]):.1f}",
        f"{len(scores) - own.wrong}", f"{all_of_them - wrong:,} of {all_of_them:,}",
    )  # fmt: skip
    counts = np.array([own.wrong, len(scores), wrong, all_of_them])
    return f"| {' | '.join(cells)} |", counts


def _say_whether_it_holds(what: str, wrong: int, images: int, p: float) -> None:
    low, high = wilson(wrong, images)
    probability = float(stats.binom.sf(wrong - 1, images, p))
    typer.echo(
        f"{what}: {wrong} of {images:,} decisions differ ({100 * wrong / images:.3f} %, 95 % "
        f"{100 * low:.3f} to {100 * high:.3f}); as many or more at p = {p}: {probability:.3f}"
    )


DRAWS: dict[str, Callable[[Rng, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(size=shape),
    "Student's t, 3 degrees": lambda rng, shape: rng.standard_t(3, shape),
    "Student's t, 2 degrees": lambda rng, shape: rng.standard_t(2, shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
    "one in 20 ten times as far": lambda rng, shape: (
        rng.normal(size=shape) * np.where(rng.random(shape) < 0.05, 10, 1)
    ),
    "constant": lambda rng, shape: np.ones(shape) * rng.normal(size=(shape[0], 1, shape[2])),
}
"""Scores of independent draws: (images, N, classes)."""
SPREADS = {"apart": 1.0, "near": 0.1, "tied": 0.0}
"""Spread of class means, in that of a draw's scores (its median distance from the median)."""


@app.command()
def simulated(p: float = 0.001, images: int = 20_000, count: int = 60, classes: int = 5) -> None:
    """Print crops and decisions that differ, by the shape of scores and the distance of classes."""
    typer.echo("| scores | classes | Student: crops | differ | more than p? | Bernstein: crops |")
    typer.echo("|---|---|---|---|---|---|")
    for name, draw in DRAWS.items():
        for distance, spread in SPREADS.items():
            rng = np.random.default_rng([len(name), int(10 * spread)])
            scores = draw(rng, (images, count, classes))
            scale = np.median(np.abs(scores - np.median(scores)))
            scores += spread * scale * rng.normal(size=(images, 1, classes))
            drawn, none = torch.from_numpy(scores), torch.zeros(images, classes).double()
            found = replay(drawn, none, p)
            reach = float(np.ptp(scores))
            other = replay(drawn[:500], none[:500], p, bernstein(reach)).used.mean()
            holds = stats.binom.sf(found.wrong - 1, images, p) > 0.01
            typer.echo(
                f"| {name} | {distance} | {found.used.mean():.1f} | {found.wrong} of {images:,} | "
                f"{'no' if holds else 'yes'} | {other:.1f} |"
            )


if __name__ == "__main__":
    app()
