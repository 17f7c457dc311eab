"""Draw the method as SVG: an image, its attention, raw crops and feature crops.

Coordinates inside a panel are pixels of the image, so that boxes in the file equal those in the
store. Boxes that differ in colour also differ in dashes and label.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np

from pipeline.kernels.geometry import View

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
Point = tuple[float, float]
Value = str | float

MARGIN, GAP, LINE = 20, 16, 18
CHARACTERS = 28
"""Largest number of characters in a line of a caption."""
INK, GREY, BORDER = "#1f2328", "#59636e", "#d1d9e0"
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#000000")
"""Palette of Okabe and Ito, which colour-blind readers can tell apart."""
DASHES = ("none", "9 3", "4 2", "10 3 2 3", "16 4", "2 2")
NUMBERS, LETTERS = "123456", "abcdef"
RADIUS = 7.5
"""Radius of the disc behind a label."""
STEPS = 8
"""Number of steps along a side of a box; a label may be placed at each."""
ROOT: dict[str, Value] = {
    "xmlns": "http://www.w3.org/2000/svg",
    "role": "img",
    "font_family": "sans-serif",
}
VEIL, FADED, UNSEEN = 0.8, 0.4, 0.65
"""Opacity over a patch without attention, over an image with boxes, and outside CLIP's view."""


@dataclass(frozen=True)
class Subject:
    """An image, the attention of a vision transformer in it, and its first crops."""

    name: str
    """Class name, for the caption."""
    content: bytes
    """Content of the PNG file."""
    size: tuple[int, int]
    """Width and height."""
    attention: np.ndarray
    """(rows, columns) of patches, which cover the whole image."""
    boxes: list[Box]
    """Raw crops, in pixels."""
    windows: list[Box]
    """Feature crops, in tokens."""
    view: View
    """The part of the resized image that CLIP's centre crop keeps."""
    tokens: int
    """Number of CLIP's tokens along a side of its view."""

    def on_image(self, window: Box) -> Box:
        """Convert a window of tokens to pixels of the image: undo CLIP's centre crop and resize."""
        left, top, right, bottom = (
            (self.view.offsets[axis] + end * self.view.side / self.tokens)
            * (self.size[axis] / self.view.lengths[axis])
            for end, axis in zip(window, (0, 1, 0, 1), strict=True)
        )
        return left, top, right, bottom


def svg(one: Subject) -> str:
    """Draw four panels with captions; return the text of an SVG file."""
    captions = [_caption(title, *texts) for title, *texts in _caption_texts(one)]
    lines = max(caption.count("<tspan") for caption in captions)
    width = 2 * MARGIN + len(captions) * (one.size[0] + GAP) - GAP
    height = 2 * MARGIN + one.size[1] + LINE * lines
    content = [
        _element("title", escape(f"Attention-based selection on a picture of a {one.name}")),
        _element("desc", escape(_description(one))),
        _element("defs", _image(one)),
        _background(width, height),
        *_placed(_panels(one), captions, one.size),
    ]
    box = f"0 0 {width} {height}"
    whole = _element("svg", _lines(content), viewBox=box, width=width, height=height, **ROOT)
    return whole + "\n"


def _panels(one: Subject) -> list[str]:
    """Draw the four panels, from left to right."""
    raw = _outlines("raw", one.boxes, NUMBERS, one.size)
    windows = [one.on_image(window) for window in one.windows]
    feature = _outlines("feature", windows, LETTERS, one.size)
    return [_use(), _attention(one), _faded(one) + raw, _faded(one) + _grid(one) + feature]


def _caption_texts(one: Subject) -> list[tuple[str, ...]]:
    """List the captions: a title, then texts that each begin on a new line."""
    return [
        ("image", one.name),
        ("attention", "of a ViT's class token,", "bright where it is high"),
        ("raw crops", "pixels around attended patches, encoded one by one"),
        (
            "feature crops",
            "windows of CLIP's tokens before its last block",
            "(pale: CLIP does not see it)",
        ),
    ]


def _description(one: Subject) -> str:
    return (
        "Four panels. First, the image. Second, the same behind a veil that is thin where the class"
        " token of a vision transformer attends, last layer. Third, the image with"
        f" {len(one.boxes)} numbered boxes: raw crops, around patches drawn by their attention."
        " Fourth, the grid of CLIP's tokens on the middle of the image, which is what CLIP sees,"
        f" with {len(one.windows)} lettered windows: feature crops, around patches drawn anew."
    )


def _placed(panels: Sequence[str], captions: Sequence[str], size: tuple[int, int]) -> Iterator[str]:
    """Put panels side by side, each above its caption."""
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        x = MARGIN + number * (size[0] + GAP)
        below = _element("g", caption, transform=f"translate(0 {size[1]})")
        yield _element("g", f"{panel}\n{below}", transform=f"translate({x} {MARGIN})")


def _caption(title: str, *texts: str) -> str:
    wrapped = [line for text in texts for line in textwrap.wrap(text, CHARACTERS)]
    lines = [_element("tspan", escape(title), x=0, y=LINE + 4, font_weight="bold", fill=INK)]
    for number, line in enumerate(wrapped, start=2):
        lines.append(_element("tspan", escape(line), x=0, y=number * LINE + 4))
    return _element("text", "".join(lines), font_size=13, fill=GREY)


# --- Panels --------------------------------------------------------------------------------------


def _background(width: int, height: int) -> str:
    box = (0.5, 0.5, width - 0.5, height - 0.5)
    return _rect(box, rx=12, fill="#ffffff", stroke=BORDER)


def _image(one: Subject) -> str:
    """Embed the image file once, for all panels to refer to."""
    data = "data:image/png;base64," + base64.b64encode(one.content).decode()
    return _element("image", id="image", width=one.size[0], height=one.size[1], href=data)


def _use() -> str:
    return _element("use", href="#image")


def _faded(one: Subject) -> str:
    return _use() + _rect((0, 0, *one.size), fill="#ffffff", fill_opacity=FADED)


def _attention(one: Subject) -> str:
    """Draw a veil over each patch; more attention makes it more transparent."""
    rows, columns = one.attention.shape
    width, height = one.size[0] / columns, one.size[1] / rows
    veils = VEIL * (1 - one.attention / one.attention.max())
    cells = [
        _rect((x * width, y * height, (x + 1) * width, (y + 1) * height), fill_opacity=veil)
        for (y, x), veil in np.ndenumerate(veils)
    ]
    return _use() + _element("g", _lines(cells), id="attention", shape_rendering="crispEdges")


def _grid(one: Subject) -> str:
    """Draw the borders of CLIP's tokens, and a veil over the image outside CLIP's view."""
    ends = [one.on_image((n, n, n, n)) for n in range(one.tokens + 1)]
    left, top, right, bottom = (*ends[0][:2], *ends[-1][2:])
    beside = f"{_path((0, 0, *one.size))}{_path((left, top, right, bottom))}"
    lines = [f"M{_rounded(x)} {_rounded(top)}V{_rounded(bottom)}" for x, *_ in ends]
    lines += [f"M{_rounded(left)} {_rounded(y)}H{_rounded(right)}" for _, y, *_ in ends]
    veil = _element("path", d=beside, fill="#ffffff", fill_opacity=UNSEEN, fill_rule="evenodd")
    style: dict[str, Value] = {
        "fill": "none",
        "stroke": INK,
        "stroke_opacity": 0.4,
        "stroke_width": 0.5,
    }
    return veil + _element("path", d="".join(lines), id="grid", **style)


def _outlines(kind: str, boxes: Sequence[Box], labels: Sequence[str], size: tuple[int, int]) -> str:
    """Draw boxes that differ in colour, dashes and label, with all labels on top of all lines."""
    drawn = [
        _rect(box, fill="none", stroke=colour, stroke_width=2, stroke_dasharray=dashes)
        for box, colour, dashes in zip(boxes, COLOURS, DASHES, strict=True)
    ]
    for label in zip(label_places(boxes, size), labels, COLOURS, strict=True):
        drawn.append(_label(*label))
    return _element("g", _lines(drawn), id=kind)


# --- Labels --------------------------------------------------------------------------------------


def label_places(boxes: Sequence[Box], size: tuple[int, int]) -> list[Point]:
    """Choose a place for each label on the outline of its box, away from labels and other boxes."""
    places: list[Point] = []
    for box in boxes:
        others = [other for other in boxes if other != box]
        clearance = partial(_clearance, places=places, others=others)
        places.append(max(_outline_points(box, size), key=clearance))
    return places


def _outline_points(box: Box, size: tuple[int, int]) -> list[Point]:
    """List points on the outline of a box, moved so that a label there stays inside the image."""
    left, top, right, bottom = box
    points = []
    for share in (step / STEPS for step in range(STEPS + 1)):
        x, y = left + (right - left) * share, top + (bottom - top) * share
        points += [(x, top), (x, bottom), (left, y), (right, y)]
    return [(_inside(x, size[0]), _inside(y, size[1])) for x, y in points]


def _inside(place: float, length: int) -> float:
    return min(max(place, RADIUS), length - RADIUS)


def _clearance(place: Point, places: Sequence[Point], others: Sequence[Box]) -> float:
    """Measure the distance of a label to the other boxes' lines; negative if labels overlap.

    Distances above `RADIUS` + 2 count alike.
    """
    labels = [max(abs(place[0] - x), abs(place[1] - y)) for x, y in places]
    overlap = min([0.0, *(distance - 2 * RADIUS - 2 for distance in labels)])
    return overlap or min([RADIUS + 2, *(_distance_to_line(place, other) for other in others)])


def _distance_to_line(place: Point, box: Box) -> float:
    (x, y), (left, top, right, bottom) = place, box
    return abs(max(left - x, x - right, top - y, y - bottom))


def _label(place: Point, label: str, colour: str) -> str:
    x, y = place
    disc = _element("circle", cx=x, cy=y, r=RADIUS, fill="#ffffff", stroke=colour, stroke_width=1.5)
    middle: dict[str, Value] = {"x": x, "y": y + 3.75, "text_anchor": "middle"}
    return disc + _element("text", label, **middle, font_size=10.5, font_weight="bold", fill=INK)


# --- Elements ------------------------------------------------------------------------------------


def _rect(box: Box, /, **attributes: Value) -> str:
    left, top, right, bottom = box
    return _element("rect", x=left, y=top, width=right - left, height=bottom - top, **attributes)


def _element(name: str, content: str = "", /, **attributes: Value) -> str:
    """Write an element; `content` must be SVG, attributes are escaped and numbers rounded."""
    written = "".join(
        f' {key.replace("_", "-")}="{escape(value) if isinstance(value, str) else _rounded(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _rounded(value: float) -> str:
    """Format with up to two decimals, so that the file is equal on every machine: "1.5", "20"."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def _path(box: Box) -> str:
    left, top, right, bottom = map(_rounded, box)
    return f"M{left} {top}H{right}V{bottom}H{left}Z"


def _lines(elements: Sequence[str]) -> str:
    return "\n" + "\n".join(elements) + "\n"
