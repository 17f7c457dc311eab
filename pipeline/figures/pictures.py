"""Pictures of a dataset in figures: the image, attention over it, and outlines of crops."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.datasets.image_ids import find_image
from pipeline.datasets.images import decode, read_verified
from pipeline.figures.style import COLOURS, DASHES, GREY, clear, clipped
from pipeline.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from PIL.Image import Image

Box = Sequence[float]
"""Left, top, right, bottom in pixels of the image; right and bottom lie outside."""
VEIL, FADED = 0.8, 0.4
"""Opacity over a patch without attention, and over an image with outlines."""


@dataclass(frozen=True)
class Picture:
    """An image of the index."""

    row: int
    """Its number."""
    image_id: str
    sha256: str
    label: int
    name: str
    """Name of its class."""
    size: tuple[int, int]
    """Width and height in pixels."""
    pixels: Image | None
    """None if the file is gone, or is not the one that was indexed."""


@dataclass(frozen=True)
class Pictures:
    """The images of a run's dataset."""

    run: Run
    images: pd.DataFrame
    """The index."""
    names: Sequence[str]
    """Names of the classes, by label."""

    @classmethod
    def of(cls, run: Run) -> Pictures:
        """Open the index of a run."""
        index: Any = run.named("index")[0]
        return cls(run, run.store.open(index).table("images"), index.dataset.classes.names)

    def rows(self, images: Sequence[str], count: int) -> list[int]:
        """Return the numbers of images, or without any of the first one of `count` classes."""
        if images:
            return [find_image(self.images["image_id"].tolist(), image) for image in images]
        first = self.images.reset_index().groupby("label", sort=True)["index"].first()
        return [int(row) for row in first.iloc[:count]]

    def read(self, row: int) -> Picture:
        """Read an image by its number."""
        one = self.images.iloc[row]
        size, label = (int(one["width"]), int(one["height"])), int(one["label"])
        return Picture(
            row, str(one["image_id"]), str(one["sha256"]), label, self.names[label], size,
            self._pixels(str(one["path"]), str(one["sha256"])),
        )  # fmt: skip

    def _pixels(self, path: str, sha256: str) -> Image | None:
        index: Any = self.run.named("index")[0]
        try:
            return decode(read_verified(index.dataset.contents, path, sha256))
        except (AbsError, OSError):
            return None


def show(axes: Axes, picture: Picture, title: str = "", faded: float = 0.0) -> None:
    """Show an image, behind a white veil of some opacity; say so if there is none."""
    width, height = picture.size
    clear(axes)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    if title:
        axes.set_title(title)
    if picture.pixels is None:
        axes.text(
            width / 2, height / 2, "gone or changed\nsince it was indexed",
            ha="center", va="center", color=GREY,
        )  # fmt: skip
        return
    extent = (0, width, height, 0)
    axes.imshow(np.asarray(picture.pixels), extent=extent, interpolation="none")
    if faded:
        rectangle(axes, (0, 0, width, height), facecolor="white", edgecolor="none", alpha=faded)


def show_attention(axes: Axes, attention: np.ndarray, size: tuple[int, int]) -> None:
    """Lay a dark veil over an image that is thinner where attention is higher.

    What shines through grows with the square root of attention, which makes weak attention visible.

    Args:
        axes: Axes with the image.
        attention: Attention of each patch, (rows, columns) over the whole image.
        size: Width and height of the image in pixels.
    """
    veil = np.zeros((*attention.shape, 4))
    veil[..., 3] = VEIL * (1 - np.sqrt(attention / attention.max()))
    axes.imshow(veil, extent=(0, size[0], size[1], 0), interpolation="nearest")


def outline(
    axes: Axes,
    box: Box,
    number: int,
    label: str = "",
    width: float = 1.3,
    at: tuple[float, float] | None = None,
) -> None:
    """Draw the outline of a crop in colour and dashes of a number, with a label at a place."""
    colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    rectangle(axes, box, fill=False, edgecolor=colour, linestyle=dashes, linewidth=width)
    if label and at:
        disc = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": colour}
        text: dict[str, Any] = {"fontsize": 6, "ha": "center", "va": "center", "zorder": 5}
        axes.text(*at, label, bbox=disc, fontweight="bold", **text)


def rectangle(axes: Axes, box: Box, **style: Any) -> None:
    """Draw a rectangle."""
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))


def show_crop(axes: Axes, picture: Picture, box: Box, number: int, label: str) -> None:
    """Show what a crop sees of an image, framed in the colour of its outline."""
    clear(axes)
    axes.set_title(label, color=COLOURS[number % len(COLOURS)], fontweight="bold")
    if picture.pixels is None:
        return
    left, top, right, bottom = map(int, box)
    extent = (left, right, bottom, top)
    crop = picture.pixels.crop((left, top, right, bottom))
    axes.imshow(np.asarray(crop), extent=extent, interpolation="none")
    colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    rectangle(axes, box, fill=False, edgecolor=colour, linestyle=dashes, linewidth=2)


def caption(picture: Picture) -> str:
    """Return the class of an image, on at most two short lines."""
    return "\n".join(textwrap.wrap(clipped(picture.name, 34), 17)[:2])
