"""Images whose label names only one of several classes in view: Figure 6.

A crop votes for the class whose mean description is nearest. Of the images that a method gets
wrong, those are shown whose raw crops agree most on one class that is not the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.figures.pictures import Box, Picture, outline, rectangle, show
from pipeline.figures.style import COLOURS, GREY, INK, WIDTH, clipped, new_figure
from pipeline.run import Run
from pipeline.texts.vectors import text_vectors
from pipeline.views.config import BOX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLOCK = 256
"""Images whose crops are read at a time."""
BARS = 4
"""Most classes whose share of crops is shown."""


@dataclass(frozen=True)
class Votes:
    """The classes that the raw crops of an image vote for."""

    row: int
    """Number of the image."""
    label: int
    votes: np.ndarray
    """Label of the class that each crop votes for, int64 (crops,)."""

    @property
    def other(self) -> int:
        """Most voted class that is not the label; the first one of several."""
        found, counts = np.unique(self.votes[self.votes != self.label], return_counts=True)
        return int(found[counts.argmax()]) if len(found) else -1

    @property
    def agreement(self) -> float:
        """Share of the crops that vote for `other`."""
        return float((self.votes == self.other).mean())

    def shares(self) -> list[tuple[int, float]]:
        """Return the most voted classes and the label, each with its share of the crops."""
        found, counts = np.unique(self.votes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        listed = [int(label) for label in found[order]]
        if self.label not in listed[:BARS]:
            listed = [*listed[: BARS - 1], self.label]
        return [(label, float((self.votes == label).mean())) for label in listed[:BARS]]


def find_votes(run: Run, method: str, rows: Sequence[int] | None, count: int) -> list[Votes]:
    """Return the votes of images, or without any of those whose crops agree most on another class.

    Args:
        run: A finished run with raw crops.
        method: Method whose errors are looked through.
        rows: Numbers of images; None to choose them.
        count: Images to choose at most.

    Raises:
        AbsError: If no image was to be chosen from.
    """
    stages: Any = run.named("scores")[0]
    scores = run.store.open(stages)
    if rows is None:
        table = scores.table("scores", columns=["method", "correct"])
        if method not in set(table["method"]):
            raise AbsError(f"method {method!r} is not scored; see scores.methods")
        wrong = table[table["method"] == method].reset_index(drop=True)
        rows = np.flatnonzero(~wrong["correct"].to_numpy()).tolist()
    found = list(_votes(run, scores, sorted(rows)))
    if not found:
        raise AbsError(f"{method} has no image of {run.store.dataset} wrong; there is none to show")
    return sorted(found, key=lambda one: (-one.agreement, one.row))[:count]


def _votes(run: Run, scores: Any, rows: Sequence[int]) -> Any:
    """Yield the votes of some images, given in ascending order."""
    present = scores.table("classes")["present"].to_numpy()
    texts = text_vectors(run.store.open(run.named("descriptions-cupl")[0]), len(present))
    m = run.settings.scores.m
    means = (texts if m is None else texts.first(m)).means().numpy()[present]
    labels = np.flatnonzero(present)
    array = run.store.open(run.named("embeddings-raw")[0]).array("embeddings", "float32")
    own = run.store.open(run.named("index")[0]).table("images", columns=["label"])["label"]
    for start in range(0, len(rows), BLOCK):
        block = list(rows[start : start + BLOCK])
        vectors = array[block, :][:, : run.settings.scores.n]
        cosines = vectors @ means.T
        cosines = cosines.max(axis=2) if cosines.ndim == 4 else cosines  # the most similar vector
        votes = labels[cosines.argmax(axis=-1)]
        for row, each in zip(block, votes, strict=True):
            yield Votes(row, int(own.iloc[row]), each)


def read_boxes(run: Run, rows: Sequence[int]) -> list[list[Box]]:
    """Read the raw crops that are scored, in pixels, of some images."""
    table = run.store.open(run.named("crops-raw")[0]).table(
        "crops", columns=["image", "crop", *BOX]
    )
    table = table[table["crop"] < run.settings.scores.n].sort_values("crop")
    by_image = {row: table.loc[table["image"] == row, BOX].to_numpy() for row in rows}
    return [list(by_image[row]) for row in rows]


def draw_in_view(
    pictures: Sequence[Picture],
    votes: Sequence[Votes],
    boxes: Sequence[Sequence[Box]],
    names: Sequence[str],
) -> Figure:
    """Draw each image with its crops by their votes, above the share of crops for each class."""
    columns = min(3, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = new_figure(WIDTH * columns / 3, 2.75 * rows)
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1] * rows)
    for panel in axes.flat[: 2 * rows * columns]:
        panel.set_axis_off()
    for i, (picture, vote, own) in enumerate(zip(pictures, votes, boxes, strict=True)):
        row, column = divmod(i, columns)
        show(axes[2 * row, column], picture, f"label: {clipped(picture.name, 26)}", faded=0.15)
        _draw_crops(axes[2 * row, column], vote, own)
        _draw_shares(axes[2 * row + 1, column], vote, names)
    return figure


def _draw_crops(panel: Axes, vote: Votes, boxes: Sequence[Box]) -> None:
    """Outline crops for the label and for the other class; crops for further classes in grey."""
    for box, voted in sorted(
        zip(boxes, vote.votes, strict=True), key=lambda pair: _rank(vote, pair)
    ):
        if voted == vote.other:
            outline(panel, box, 0, width=0.7)
        elif voted == vote.label:
            outline(panel, box, 1, width=0.9)
        else:
            rectangle(panel, box, fill=False, edgecolor=GREY, linewidth=0.4)


def _rank(vote: Votes, pair: tuple[Box, int]) -> int:
    return {vote.other: 2, vote.label: 1}.get(int(pair[1]), 0)


def _draw_shares(panel: Axes, vote: Votes, names: Sequence[str]) -> None:
    """Draw the share of crops that vote for each class as bars with names."""
    panel.set_axis_on()
    colours = {vote.other: COLOURS[0], vote.label: COLOURS[1]}
    for place, (label, share) in enumerate(vote.shares()):
        panel.barh(place, share, color=colours.get(label, GREY), height=0.8, alpha=0.45)
        mark = " (label)" if label == vote.label else ""
        text = f"{clipped(names[label], 24)}{mark}: {100 * share:.0f} %"
        panel.text(0.01, place, text, va="center", fontsize=6.5, color=INK)
    panel.set_xlim(0, 1)
    panel.set_ylim(BARS - 0.5, -0.5)
    panel.set_yticks([])
    panel.set_xticks([0, 0.5, 1], ["0", "50", "100 % of crops"])
    panel.tick_params(labelsize=6)
