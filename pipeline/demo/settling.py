"""Test the promise of settling on new worlds of the demo's generator, and on simulated scores.

    python -m pipeline.demo.settling worlds FOLDER      # 20 worlds, 2,528 images
    python -m pipeline.demo.settling simulated

Worlds are drawn with seeds of their own, and the demo's models see them: all N raw crops of every
image are encoded, the feature branch is in expectation. Settling is then replayed from the stored
vectors: with all N draws, and with some of them, chosen at random several times, as if N were
smaller. A one-sided binomial test says whether more decisions differ than promised. Encoding all
crops of all worlds takes half an hour on two cores; a second run continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from scipy import stats

from pipeline.demo.worlds import World
from pipeline.kernels.kriging import by_mean, by_place
from pipeline.kernels.ordering import best_order
from pipeline.kernels.rounds import looks
from pipeline.kernels.settling import Tail, bernstein, change_bound, student
from pipeline.kernels.statistics import wilson
from pipeline.methods.abs import Abs
from pipeline.methods.base import MethodInputs, ViewVectors
from pipeline.run import Run
from pipeline.texts.vectors import text_vectors
from pipeline.views.config import BOX
from pipeline.views.readers import view_reader
from stages.scores import Scores

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

CLASSES = (24, 48, 96, 144, 200)
KINDS = ((5, 0.0), (5, 0.25), (4, 0.25), (3, 0.25))
"""Attributes that a species draws anew, and share of wrong descriptions: from easy to hard."""
IMAGES = 96
"""Images of a world, at least; the same number for each class."""
SETTINGS = ("scores.expectation=true",)

PART = 40
"""Draws of an image that are chosen at random for a further replay."""
BLOCK = 1000
"""Images that are replayed together."""
BOXES = 100
"""Sets of N places that simulated images have."""

Rng = np.random.Generator


def worlds() -> list[World]:
    """Return the worlds: every number of classes, of every kind."""
    cases = [(classes, kind) for kind in KINDS for classes in CLASSES]
    return [
        World(seed, classes, -(-IMAGES // classes), *kind)
        for seed, (classes, kind) in enumerate(cases)
    ]


class Draws(NamedTuple):
    """Scores of all draws of some images."""

    scores: torch.Tensor
    """Class scores of each draw, (images, N, classes)."""
    others: torch.Tensor
    """Class scores apart from draws, (images, classes)."""
    places: torch.Tensor
    """Left, top, right and bottom end of each draw, (images, N, 4)."""

    def of(self, images: Any) -> Draws:
        """Return the draws of some images."""
        return Draws(*(part[images] for part in self))

    def take(self, chosen: torch.Tensor) -> Draws:
        """Return some draws of each image, by their numbers: int64 (images, n)."""
        rows = torch.arange(len(chosen))[:, None]
        return Draws(self.scores[rows, chosen], self.others, self.places[rows, chosen])


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


def replay(draws: Draws, p: float, by: str = "place", tail: Tail = student) -> Replay:
    """Take the draws of each image, in their order, until it has settled.

    Args:
        draws: All draws.
        p: Bound at which an image has settled.
        by: What the draws to come are predicted by: `place`, as shipped, or `mean`.
        tail: Bound for one class at one look.
    """
    blocks = torch.arange(len(draws.scores)).split(BLOCK)
    found = [_replay(draws.of(block), p, by, tail) for block in blocks]
    return Replay(
        *(np.concatenate([getattr(each, name) for each in found]) for name in vars(found[0]))
    )


def _replay(draws: Draws, p: float, by: str, tail: Tail) -> Replay:
    count = draws.scores.shape[1]
    final = (draws.others + draws.scores.sum(dim=1)).argmax(dim=1).numpy()
    used, decided = np.full(len(final), count), final.copy()
    left = np.arange(len(final))
    for n in looks(count):
        some = draws.of(left)
        scores = some.scores[:, :n].double()
        predicted = by_place(some.places, n) if by == "place" else by_mean(len(left), n, 1 / count)
        bounds = change_bound(scores, some.others, count, predicted, tail).numpy()
        sums = (predicted.weights[:, None] @ scores)[:, 0] * count + some.others
        stop = bounds <= p
        used[left[stop]], decided[left[stop]] = n, sums.argmax(dim=1).numpy()[stop]
        left = left[~stop]
    return Replay(used, decided, final)


def ordered(draws: Draws, p: float) -> Draws:
    """Return the draws of each image in the order in which they are taken."""
    return draws.take(best_order(draws.places, p))


def drawn(run: Run) -> Draws:
    """Score every raw crop, and the feature branch, of a finished run."""
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
    table = run.store.open(run.named("crops-raw")[0]).table("crops").sort_values(["image", "crop"])
    boxes = table.loc[table["crop"] < raw.shape[1], BOX].to_numpy().reshape(*raw.shape[:2], 4)
    return Draws(one_by_one, score(views), torch.tensor(boxes))


def parts(draws: Draws, count: int) -> Iterator[Draws]:
    """Yield `PART` draws of each image, chosen at random, `count` times.

    What is known apart from draws counts as often beside a part as beside all.
    """
    share = PART / draws.scores.shape[1]
    for seed in range(count):
        random = np.random.default_rng(seed).random(draws.scores.shape[:2])
        part = draws.take(torch.from_numpy(random.argsort(axis=1)[:, :PART]))
        yield part._replace(others=share * part.others)


@app.command(name="worlds")
def on_worlds(
    folder: Path,
    p: float = 0.001,
    repeats: Annotated[int, typer.Option(help=f"Choices of {PART} draws of an image.")] = 20,
    first: Annotated[int, typer.Option(help="Number of the first world.")] = 0,
    last: Annotated[int, typer.Option(help="Number of the last world.")] = 19,
    images: Annotated[int | None, typer.Option(help="Images of a class.")] = None,
) -> None:
    """Print the outcome on each world, and whether the promise holds on all of them."""
    os.environ["ABS_ARTIFACTS"] = str(folder / "store")
    typer.echo(
        "| world | classes | redrawn, wrong | images | top-1 | crops | same "
        f"| of {PART}: crops | same |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|---|")
    counts = np.zeros(4, int)
    for world in worlds()[first : last + 1]:
        world = World(**{**vars(world), "images": images or world.images})
        row, found = _on_world(world, folder, p, repeats)
        typer.echo(row)
        counts += found
    _say_whether_it_holds("all draws", counts[0], counts[1], p)
    _say_whether_it_holds(f"{repeats} times {PART} draws", counts[2], counts[3], p)


def _on_world(world: World, folder: Path, p: float, repeats: int) -> tuple[str, np.ndarray]:
    """Return a row of the table; wrong and all images, with all draws and with parts of them."""
    place = folder / f"{world.seed:02d}"
    dataset = place / "world.yaml"
    if not dataset.exists():
        world.write(place)
    run = Run.of(str(dataset), "official", SETTINGS)
    run.execute(run.stages, [], quiet=True)
    draws = drawn(run)
    own, images = replay(ordered(draws, p), p), len(draws.scores)
    found = [replay(ordered(part, p), p) for part in parts(draws, repeats)]
    all_of_them = len(found) * images
    wrong = sum(each.wrong for each in found)
    mean = np.mean([each.used.mean() for each in found])
    top1 = run.store.open(run.named("metrics")[0]).table("metrics")["top1"][0]
    cells = (
        f"{world.seed}", f"{world.classes}", f"{world.redrawn}, {world.wrong}", f"{images}",
        f"{100 * top1:.1f}", f"{own.used.mean():.1f}", f"{images - own.wrong}",
        f"{mean:.1f}", f"{all_of_them - wrong:,} of {all_of_them:,}",
    )  # fmt: skip
    counts = np.array([own.wrong, images, wrong, all_of_them])
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
    "one in 20 far to one side": lambda rng, shape: (
        rng.normal(size=shape) + np.where(rng.random(shape) < 0.05, 10, 0)
    ),
    "constant": lambda rng, shape: np.ones(shape) * rng.normal(size=(shape[0], 1, shape[2])),
}
"""Scores of independent draws: (images, N, classes)."""
SPREADS = {"apart": 1.0, "near": 0.1, "tied": 0.0, "equal": None}
"""Spread of class means, in that of a draw's scores (its median distance from the median).

None for sums of N draws that are all equal but for one part in a billion.
"""
PLACED = {"independent of": 0.0, "by": 0.7}
"""Share of a score's variance that follows from the place of its draw, smoothly."""


@app.command()
def simulated(p: float = 0.001, images: int = 10_000, count: int = 60, classes: int = 5) -> None:
    """Print crops and decisions that differ, by the shape of scores and the distance of classes."""
    typer.echo(
        "| scores | classes | place | crops | differ | more than p? | by mean: crops | differ "
        "| Bernstein: crops |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|---|")
    for cells in product(DRAWS, SPREADS, PLACED):
        draws = _simulated(*cells, (images, count, classes))
        best = best_order(draws.places[:BOXES], p)[np.arange(images) % BOXES]
        found, plain = replay(draws.take(best), p), replay(draws, p, "mean")
        bounded = replay(draws.of(slice(0, 500)), p, "mean", bernstein(_reach(draws.scores)))
        holds = stats.binom.sf(found.wrong - 1, images, p) > 0.01
        row = (
            *cells, f"{found.used.mean():.1f}", f"{found.wrong} of {images:,}",
            "no" if holds else "yes", f"{plain.used.mean():.1f}", f"{plain.wrong}",
            f"{bounded.used.mean():.1f}",
        )  # fmt: skip
        typer.echo(f"| {' | '.join(row)} |")


def _reach(scores: torch.Tensor) -> float:
    return float(scores.max() - scores.min())


def _simulated(shape: str, distance: str, placed: str, size: tuple[int, int, int]) -> Draws:
    """Draw places as ABS does, and scores."""
    rng = np.random.default_rng([len(shape), len(distance), len(placed)])
    images, count, classes = size
    centers, sizes = rng.random((2, BOXES, count, 2))
    half = (0.5 + 0.4 * sizes) / 2
    places = np.concatenate([centers - half, centers + half], axis=2).clip(0, 1)
    places = places[np.arange(images) % BOXES]
    scores = DRAWS[shape](rng, size)
    scale, share = np.median(np.abs(scores - np.median(scores))), PLACED[placed]
    smooth = np.sin(np.einsum("int,itc->inc", places, 2 * rng.normal(size=(images, 4, classes))))
    scores = np.sqrt(1 - share) * scores + np.sqrt(2 * share) * scale * smooth
    spread = SPREADS[distance]
    if spread is None:
        scores -= scores.mean(axis=1, keepdims=True)
        scores[:, -1, 0] += 1e-9 * scale
    else:
        scores += spread * scale * rng.normal(size=(images, 1, classes))
    none = torch.zeros(images, classes, dtype=torch.float64)
    return Draws(torch.from_numpy(scores), none, torch.from_numpy(places))


if __name__ == "__main__":
    app()
