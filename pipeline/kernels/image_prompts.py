"""Visual prompts that mark a box in an image (Table 5, raw space)."""

from __future__ import annotations

from typing import get_args

from PIL import Image, ImageDraw, ImageEnhance

from pipeline.kernels.prompt_names import RawPrompt

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a half-open box, in pixels."""

RED = (255, 0, 0)
"""Colour of `redcircle`, RGB."""


def prompt_box(
    image: Image.Image, box: Box, prompt: RawPrompt, brightness: float, thickness: float
) -> Image.Image:
    """Apply a visual prompt to a box of an image (Table 5, raw space).

    Args:
        image: RGB image.
        box: Half-open box in pixels, inside the image.
        prompt: `crop`, the box alone; `mask`, black outside the box; `highlight`, the pixels of the
            box multiplied by `brightness`; `redcircle`, an ellipse that touches the sides of the
            box from within.
        brightness: Factor of `highlight`.
        thickness: Line width of `redcircle`, as a share of the image's shorter side; at least a
            pixel.

    Returns:
        RGB image of the box's size for `crop`, else of the image's size.

    Raises:
        ValueError: For another prompt.
    """
    if prompt not in get_args(RawPrompt):
        raise ValueError(f"unknown prompt {prompt!r}: one of {', '.join(get_args(RawPrompt))}")
    part = image.crop(box)
    if prompt == "crop":
        return part
    if prompt == "redcircle":
        circled = image.copy()
        left, top, right, bottom = box
        width = max(1, round(thickness * min(image.size)))
        ends = (left, top, max(left, right - 1), max(top, bottom - 1))
        ImageDraw.Draw(circled).ellipse(ends, outline=RED, width=width)
        return circled
    whole = Image.new("RGB", image.size) if prompt == "mask" else image.copy()
    if prompt == "highlight":
        part = ImageEnhance.Brightness(part).enhance(brightness)
    whole.paste(part, box[:2])
    return whole
