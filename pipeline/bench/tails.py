"""Cost of feature crops by what follows the layer that they enter, against a forward pass.

    python -m pipeline.bench.tails [--pairs N] [MODEL ...]

Encoders have their published sizes and random weights. Of an image, N different windows are encoded
as a run does, then the image itself by the same encoder, in turns; the last column is the median
of the ratios. Seconds are those of the processor, which other programs disturb less than the clock.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.bench.timing import compare, machine, processor_seconds_of
from pipeline.kernels.blocks import all_tokens_after
from pipeline.kernels.feature_crops import Sequences, finish, finish_windows, prompt_windows
from pipeline.kernels.towers import Tower
from pipeline.models.clip.dimensions import Vision
from pipeline.models.resolved import Resolved

N, BATCH = 60, 16
"""Windows of an image, as in the paper; windows of a batch where they share nothing."""

Encoder = tuple[Tower, Vision]


def of_open_clip(name: str) -> Encoder:
    """Build the image encoder of a name of open_clip."""
    import open_clip

    from pipeline.models.clip.of_open_clip import build
    from pipeline.models.clip.towers import tower_of
    from pipeline.models.clip.vision import vision_of

    config = open_clip.get_model_config(name)
    model, _ = build(Resolved(name, {"model": config, "preprocess": {}}, None, seed=0), None)
    return tower_of(model.eval().visual), vision_of(name, config)


def of_transformers(config: dict[str, Any]) -> Encoder:
    """Build the image encoder of a model of transformers, by its configuration."""
    from pipeline.models.clip.of_transformers.build import bare
    from pipeline.models.clip.of_transformers.families import vision_of
    from pipeline.models.clip.of_transformers.towers import tower_of

    kind = config["model_type"]
    vision = vision_of(kind, config)
    return tower_of(bare(config), kind, vision), vision


ENCODERS: dict[str, Callable[[], Encoder]] = {
    **{
        name: partial(of_open_clip, name)
        for name in ("ViT-B-16", "EVA02-B-16", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "PE-Core-B-16")
    },
    "ALIGN": partial(
        of_transformers,
        {"model_type": "align", "vision_config": {"image_size": 289, "hidden_dim": 640}},
    ),
    "GroupViT": partial(of_transformers, {"model_type": "groupvit"}),
    "BLIP-2": partial(of_transformers, {"model_type": "blip-2"}),
}
"""Encoders of all tails, by the name of a model."""


@dataclass(frozen=True)
class Cost:
    """Cost of N feature crops of an image."""

    model: str
    pooling: str
    layer: str
    """Layer that windows enter, in words."""
    passes: float
    """Cost in forward passes of the image."""


def windows(grid: int, count: int) -> Tensor:
    """Draw different square windows with sides of 0.5 to 0.9 of the grid: int64 (count, 4)."""
    rng, found = np.random.default_rng(0), dict[tuple[int, ...], None]()
    while len(found) < count:
        side = int(rng.integers(grid // 2, int(0.9 * grid) + 1))
        left, top = (int(at) for at in rng.integers(0, grid - side + 1, 2))
        found[left, top, left + side, top + side] = None
    return torch.tensor(list(found))


def measure(model: str, encoder: Encoder, pairs: int, count: int = N) -> list[Cost]:
    """Measure windows at the last block, and at the pooling if windows enter it."""
    tower, vision = encoder
    pixels = torch.randn(1, 3, vision.image_size, vision.image_size)
    drawn = windows(vision.grid, count)
    tower, found = tower.eval().requires_grad_(False), []

    def whole() -> Tensor:
        return finish(tower, Sequences(tower.stem(pixels)), 0)

    for layer in range(vision.layers - 1, vision.window_layers):
        tokens = _tokens_before(tower, pixels, layer)
        encode = _encoder_of_windows(tower, tokens, drawn, layer)
        row = compare(model, whole, encode, pairs, seconds=processor_seconds_of)
        words = "the last block" if layer < vision.layers else "the pooling"
        found.append(Cost(model, vision.pooling, words, row.ratio))
    return found


def _tokens_before(tower: Tower, pixels: Tensor, layer: int) -> Tensor:
    tokens: Tensor = tower.stem(pixels)
    for block in tower.blocks[:layer]:
        tokens = all_tokens_after(block, tokens)
    return tokens


def _encoder_of_windows(
    tower: Tower, tokens: Tensor, drawn: Tensor, layer: int
) -> Callable[[], object]:
    """Return the function that encodes windows of an image, shared where a run shares them."""
    if layer == tower.layers - 1 and tower.shares_windows:
        return partial(finish_windows, tower.exact_end(), tokens, drawn[None])

    def one_by_one() -> None:
        for batch in drawn.split(BATCH):
            finish(tower, prompt_windows(tokens[0], batch, "crop", prefix=tower.prefix), layer)

    return one_by_one


@torch.inference_mode()
def main(names: Iterable[str], pairs: int) -> None:
    """Print a table of the named encoders, one after the other in memory."""
    torch.set_num_threads(1)
    print(machine())
    print("| pooling | model | windows enter | forward passes |\n|---|---|---|---|")
    for name in names:
        for cost in measure(name, ENCODERS[name](), pairs):
            print(
                f"| {cost.pooling} | `{cost.model}` | {cost.layer} | {cost.passes:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help=", ".join(ENCODERS))
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    main(given.models or ENCODERS, given.pairs)
