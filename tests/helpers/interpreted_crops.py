"""Crops by the Triton kernels under its interpreter, against Pillow: `python -m` prints counts.

The interpreter is chosen by an environment variable when the kernels are imported, so that this
runs in a process of its own. Prints JSON: boxes and differing bytes of each case. The argument is
the number of boxes of an image; a box takes a tenth of a second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import pipeline
from pipeline.kernels import resize_triton
from pipeline.kernels.resize import Resizer, _checked, _columns_first, _sizes, planes
from tests.kernels.test_resize import expected, noise

DEMO = Path(pipeline.__file__).parent / "demo" / "images"
RESIZERS = [Resizer(16), Resizer(13, "squash", "bilinear"), Resizer(18, "longest")]


def pictures() -> list[Image.Image]:
    """Small photographs, as each input takes time, and noise: RGB, grey, tall, wide and tiny."""
    files = sorted(DEMO.glob("*/*"))[:2]
    drawn = [Image.open(file).convert("RGB").reduce(3) for file in files]
    grey = drawn[1].convert("L").convert("RGB")
    return [
        *drawn,
        grey,
        noise(17, 150, 2),
        noise(190, 11),
        noise(1, 1),
        noise(3, 2),
        noise(60, 60),
    ]


def boxes_of(
    image: Image.Image, resizer: Resizer, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Boxes of any size and place that are not thinner than `longest` bears, the whole first."""
    ends = rng.integers(0, (image.width + 1, image.height + 1), (count, 2, 2))
    low, high = ends.min(axis=1), ends.max(axis=1)
    boxes = np.concatenate([[(0, 0, *image.size)], np.concatenate([low, high], axis=1)])
    sides = boxes[:, 2:] - boxes[:, :2]
    thin = sides.min(axis=1) * resizer.side <= sides.max(axis=1)
    return np.asarray(boxes[(sides.min(axis=1) > 0) & ~((resizer.mode == "longest") & thin)])


def differing(resizer: Resizer, count: int, seed: int) -> tuple[int, int]:
    """Return the number of boxes of all pictures, and of bytes that are not Pillow's."""
    images, rng = pictures(), np.random.default_rng(seed)
    boxes = [boxes_of(image, resizer, count, rng) for image in images]
    wanted = [expected(image, part, resizer) for image, part in zip(images, boxes, strict=True)
              if len(part)]  # fmt: skip
    pixels = [planes(image) for image in images]
    checked = [_checked(image, part) for image, part in zip(pixels, boxes, strict=True)]
    sizes = _sizes(np.concatenate(checked))
    views = resizer._views(sizes)
    order = _columns_first(sizes, np.array([view.lengths for view in views]))
    how = resizer.side, resizer.filter, torch.device("cpu")
    found = resize_triton.resized(pixels, checked, views, order, *how).numpy()
    return len(found), int((found != np.concatenate(wanted)).sum())


if __name__ == "__main__":
    torch.set_num_threads(1)
    resize_triton.SUMS = 1 << 13  # the interpreter is slow by program, not by sum
    resize_triton.HELD = 1 << 18  # several groups
    boxes = int(sys.argv[1])
    print(json.dumps([differing(resizer, boxes, seed) for seed, resizer in enumerate(RESIZERS)]))
