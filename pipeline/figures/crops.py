"""Figure of how the crops of an image are made: its attention, raw crops, and feature crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.figures.labels import label_places
from pipeline.figures.pictures import (
    FADED,
    Box,
    Picture,
    caption,
    outline,
    rectangle,
    show,
    show_attention,
)
from pipeline.figures.style import INK, WIDTH, new_figure
from pipeline.kernels.geometry import View
from pipeline.models.clip.source import ClipSource
from pipeline.plan import read
from pipeline.run import Run
from pipeline.views.config import BOX, WINDOW, TokenGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 6
"""Crops of each kind, in order of their number."""
RADIUS = 0.045
"""Radius of a label, as a share of the longer side of the image."""
UNSEEN = 0.65
"""Opacity of the veil over what CLIP does not see."""
NUMBERS, LETTERS = "123456", "abcdef"


@dataclass(frozen=True)
class Subject:
    """An image, the attention in it, and its first crops."""

    picture: Picture
    attention: np.ndarray
    """(rows, columns) of patches, which cover the whole image."""
    boxes: Sequence[Box]
    """Raw crops, in pixels."""
    windows: Sequence[Box]
    """Feature crops, in tokens."""
    view: View
    """Part of the resized image that CLIP's preprocessing keeps."""
    tokens: int
    """Number of CLIP's tokens along a side of its view."""

    def on_image(self, window: Box) -> Box:
        """Convert a window of tokens to pixels of the image: undo CLIP's crop and resize."""
        size, view = self.picture.size, self.view
        return [
            (view.offsets[axis] + end * view.side / self.tokens) * size[axis] / view.lengths[axis]
            for end, axis in zip(window, (0, 1, 0, 1), strict=True)
        ]


def read_subjects(run: Run, pictures: Sequence[Picture]) -> list[Subject]:
    """Read attention and first crops of images from the store."""
    maps = run.store.open(run.named("attention")[0]).array("attention")
    boxes, windows = (_first(run, name) for name in ("crops-raw", "crops-feature"))
    digests, _ = read(run.settings)
    clip = ClipSource(run.settings.clip, run.settings.paths, digests)
    grid = TokenGrid.of(clip, "clip")
    return [
        Subject(
            one,
            np.asarray(maps[one.row])[run.settings.crops.layer],
            boxes.get(one.row, []),
            windows.get(one.row, []),
            grid.view(*one.size),
            clip.grid,
        )
        for one in pictures
    ]


def _first(run: Run, stage: str) -> dict[int, list[Box]]:
    """Read the first crops of every image, by its number: boxes in pixels or windows in tokens."""
    columns = BOX if stage == "crops-raw" else WINDOW
    table = run.store.open(run.named(stage)[0]).table("crops", columns=["image", "crop", *columns])
    table = table[table["crop"] < SHOWN].sort_values(["image", "crop"])
    found: dict[int, list[Box]] = {}
    for image, *place in table[["image", *columns]].to_numpy().tolist():
        found.setdefault(image, []).append(place)
    return found


def draw_crops(subjects: Sequence[Subject]) -> Figure:
    """Draw a row for each image: the image, attention, raw crops, and feature crops."""
    heights = [one.picture.size[1] / one.picture.size[0] for one in subjects]
    figure = new_figure(WIDTH, sum(1.65 * height for height in heights) + 0.4)
    axes = figure.subplots(len(subjects), 4, squeeze=False, height_ratios=heights)
    for line, one in zip(axes, subjects, strict=True):
        _draw_row(line, one)
    titles = (
        "",
        "attention of a ViT's class token,\nbright where it is high",
        "raw crops: pixels around attended\npatches, encoded one by one",
        "feature crops: windows of CLIP's\ntokens (pale: not seen by CLIP)",
    )
    for panel, title in zip(axes[-1], titles, strict=True):
        if title:
            _write_below(panel, title)
    return figure


def _draw_row(panels: Sequence[Axes], one: Subject) -> None:
    image, attended, raw, feature = panels
    show(image, one.picture)
    _write_below(image, caption(one.picture))
    show(attended, one.picture)
    if one.picture.pixels is not None:
        show_attention(attended, one.attention, one.picture.size)
    show(raw, one.picture, faded=FADED)
    _outline_all(raw, one.boxes, NUMBERS, one.picture.size)
    show(feature, one.picture, faded=FADED)
    _draw_grid(feature, one)
    windows = [one.on_image(window) for window in one.windows]
    _outline_all(feature, windows, LETTERS, one.picture.size)


def _write_below(panel: Axes, text: str) -> None:
    panel.text(0, -0.04, text, transform=panel.transAxes, va="top", fontsize=6.5, linespacing=1.35)


def _outline_all(panel: Axes, boxes: Sequence[Box], labels: str, size: tuple[int, int]) -> None:
    """Draw boxes that differ in colour, dashes and label, with all labels on top of all lines."""
    places = label_places(boxes, size, RADIUS * max(size))
    for number, (box, label, place) in enumerate(zip(boxes, labels, places, strict=False)):
        outline(panel, box, number, label, at=place)


def _draw_grid(panel: Axes, one: Subject) -> None:
    """Draw the borders of CLIP's tokens, and a veil over the image outside CLIP's view."""
    width, height = one.picture.size
    left, top, right, bottom = one.on_image((0, 0, one.tokens, one.tokens))
    veil = {"facecolor": "white", "edgecolor": "none", "alpha": UNSEEN}
    for box in (
        (0, 0, max(left, 0), height),
        (min(right, width), 0, width, height),
        (max(left, 0), 0, min(right, width), max(top, 0)),
        (max(left, 0), min(bottom, height), min(right, width), height),
    ):
        rectangle(panel, box, **veil)
    ends = [one.on_image((n, n, n, n)) for n in range(one.tokens + 1)]
    style: dict[str, Any] = {"colors": INK, "alpha": 0.4, "linewidth": 0.4}
    panel.vlines([end[0] for end in ends], top, bottom, **style)
    panel.hlines([end[1] for end in ends], left, right, **style)
