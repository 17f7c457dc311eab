"""Ways to point at a box in an image (Table 5, raw space): images in, images out."""

from __future__ import annotations

from typing import get_args

from PIL import Image, ImageDraw, ImageEnhance

from pipeline.kernels.prompt_names import RawPrompt

Box = tuple[int, int, int, int]

RED = (255, 0, 0)


def prompt_box(
    image: Image.Image, box: Box, prompt: RawPrompt, brightness: float, thickness: float
) -> Image.Image:
    """What makes `box`, half-open in pixels, stand out of an RGB image.

    crop: the box alone. mask: everything else is black. highlight: pixels of the box are
    multiplied by `brightness`. redcircle: an ellipse that touches the box's sides from within, as
    thick as `thickness` of the image's shorter side, at least a pixel. ValueError for
    another prompt.
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
