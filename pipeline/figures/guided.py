"""Attention of several sources, and the crops that each guides: Figures 5 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.figures.pictures import (
    Box,
    Picture,
    caption,
    outline,
    show,
    show_attention,
    show_crop,
)
from pipeline.figures.style import WIDTH, clipped, new_figure
from pipeline.run import Run
from pipeline.views.config import BOX

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5
"""Crops of each image and source, in order of their number."""


@dataclass(frozen=True)
class Source:
    """A source of attention: its name, and what it gave for some images."""

    name: str
    attention: Sequence[np.ndarray]
    """Attention of each patch of an image, (rows, columns), by image."""
    boxes: Sequence[Sequence[Box]]
    """The first raw crops of an image in pixels, by image."""


def read_source(name: str, run: Run, rows: Sequence[int]) -> Source:
    """Read attention and raw crops of some images from the store."""
    maps = run.store.open(run.named("attention")[0]).array("attention")
    crops = run.store.open(run.named("crops-raw")[0]).table(
        "crops", columns=["image", "crop", *BOX]
    )
    crops = crops[crops["image"].isin(rows) & (crops["crop"] < SHOWN)].sort_values("crop")
    boxes = [crops.loc[crops["image"] == row, BOX].to_numpy().tolist() for row in rows]
    attention = [np.asarray(maps[row])[run.settings.crops.layer] for row in rows]
    return Source(name, attention, boxes)


def draw_guided(pictures: Sequence[Picture], sources: Sequence[Source]) -> Figure:
    """Draw a row for each image and source: image, attention with outlines of crops, the crops."""
    count = len(pictures) * len(sources)
    figure = new_figure(WIDTH, 1.12 * count + 0.1)
    axes = figure.subplots(count, SHOWN + 2, squeeze=False)
    for i, picture in enumerate(pictures):
        for j, source in enumerate(sources):
            image, veiled, *crops = axes[i * len(sources) + j]
            if j == 0:
                show(image, picture, caption(picture))
            else:
                image.set_axis_off()
            show(veiled, picture, clipped(source.name, 20))
            if picture.pixels is not None:
                show_attention(veiled, source.attention[i], picture.size)
            boxes = source.boxes[i]
            for number, panel in enumerate(crops):
                if number < len(boxes):
                    outline(veiled, boxes[number], number)
                    show_crop(panel, picture, boxes[number], number, str(number + 1))
                else:
                    panel.set_axis_off()
    return figure
