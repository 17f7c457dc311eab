"""Seconds and memory of scoring by each method, on random vectors of CUB's size.

    python -m pipeline.bench.methods [--images N] [METHOD ...]

Vectors are drawn where they are needed, so that neither disk nor models take part; a block of
images at a time, as in the stage. Seconds are those of the processor, which other programs disturb
less than the clock. Methods that learn from all images get all of CUB, and score N of them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.bench.timing import processor_seconds_of
from pipeline.kernels.matching import Descriptions
from pipeline.methods.base import Method, MethodInputs, Scorer, Views, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS

CLASSES, TEXTS, IMAGES, DIM, BLOCK = 200, 30, 5794, 512, 128


class Cost(NamedTuple):
    """Cost of scoring by one method."""

    method: str
    prepared: float
    """Seconds of the processor that the scorer took to be made."""
    scored: float
    """Seconds of the processor for all images, from those that were scored."""
    memory: int
    """Largest memory of the process so far, in MB: 10^6 bytes."""


class Vectors:
    """Random unit vectors that lie close together, as those of real models do."""

    def __init__(self, dim: int, images: int) -> None:
        self.generator, self.seconds = torch.Generator().manual_seed(0), 0.0
        self.centre, self.dim = torch.randn(dim, generator=self.generator), dim
        self.whole = self(images, 1)

    def __call__(self, *shape: int) -> Tensor:
        """Draw vectors (shape, dim), and add the seconds of the processor to `seconds`."""
        started = time.process_time()
        noise = torch.randn(*shape, self.dim, generator=self.generator)
        drawn = F.normalize(self.centre + 1.5 * noise, dim=-1)
        self.seconds += time.process_time() - started
        return drawn

    def texts(self, classes: int, each: int) -> Descriptions:
        """Draw the texts of each class."""
        labels = torch.arange(classes).repeat_interleave(each)
        return Descriptions.from_rows(self(classes * each), labels, classes)

    def views(self, images: slice, counts: dict[str, int]) -> Views:
        """Draw the views of some images; their whole images are always the same."""
        found = {"image": ViewVectors(self.whole[images])}
        rows = len(found["image"].vectors)
        drawn = {n: ViewVectors(self(rows, count)) for n, count in counts.items() if n != "image"}
        return found | drawn


MEASURED = [name for name, method in METHODS.items() if not method.learns_prompts]
"""Methods that read vectors alone; TPT runs CLIP's text encoder."""


def measure(name: str, vectors: Vectors, texts: Descriptions, images: int) -> Cost:
    """Measure a method on the first images."""
    method, config = METHODS[name](), ScoresConfig()
    counts, total = method.views(config), len(vectors.whole)
    inputs = _inputs(method, config, vectors, texts)
    started = time.process_time() - vectors.seconds
    scorer = method.scorer(inputs)
    prepared, scored = time.process_time() - vectors.seconds - started, 0.0
    for start in range(0, images, BLOCK):
        scored += _timed(scorer, slice(start, min(start + BLOCK, images)), vectors, counts)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6
    return Cost(name, prepared, scored * total / images, memory)


def _timed(scorer: Scorer, some: slice, vectors: Vectors, counts: dict[str, int]) -> float:
    return processor_seconds_of(partial(scorer, some, vectors.views(some, counts)))


def _inputs(
    method: Method, config: ScoresConfig, vectors: Vectors, texts: Descriptions
) -> MethodInputs:
    images = len(vectors.whole)
    return MethodInputs(
        dict.fromkeys(method.texts, texts),
        config,
        images=images,
        block=lambda some: vectors.views(some, method.views(config)),
        sha256=[f"{i:064x}" for i in range(images)],
        boxes={name: _boxes(vectors, images) for name in method.boxes},
    )


def _boxes(vectors: Vectors, images: int) -> Tensor:
    """Draw boxes of 300 views: int64 (images, 300, 4)."""
    corners = torch.randint(0, 200, (images, 300, 2), generator=vectors.generator)
    return torch.cat([corners, corners + 250], dim=2)


@torch.inference_mode()
def main(names: Iterable[str] = (), images: int = 2 * BLOCK) -> None:
    """Print a table of all methods, or of those that are named, beside ABS alone."""
    vectors = Vectors(DIM, IMAGES)
    texts = vectors.texts(CLASSES, TEXTS)
    measure("abs", vectors, texts, BLOCK)  # the first call of everything takes longer
    alone = measure("abs", vectors, texts, images)
    print("| method | seconds | of ABS's | memory, MB |\n|---|---|---|---|")
    for name in names or MEASURED:
        cost = measure(name, vectors, texts, images)
        seconds = cost.prepared + cost.scored
        share = seconds / (alone.prepared + alone.scored)
        print(f"| `{name}` | {seconds:.0f} | {share:.2f} | {cost.memory} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", help=", ".join(MEASURED))
    parser.add_argument("--images", type=int, default=2 * BLOCK)
    given = parser.parse_args()
    main(given.methods, given.images)
