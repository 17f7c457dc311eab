"""Training data, generated on the fly: batch i depends on the seed and on i alone.

Each scene gives several views: the whole picture as CLIP's preprocessing crops it, and random
squares. A caption describes only what its view shows. Which captions are true of which views is
known exactly, so a caption that also fits another view of the batch is not a negative for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.demo.attributes import ATTRIBUTES, PARTS, Bird, Statement, part_of
from pipeline.demo.phrases import (
    ANONYMOUS,
    Name,
    naming_sentence,
    one_part_sentence,
    part_statements,
    portrait_sentence,
    possible_names,
)
from pipeline.demo.species import reserved_names, training_bird
from pipeline.demo.tokenizer import load_tokenizer
from pipeline.demo.world import Scene, draw_scene

Box = tuple[float, float, float, float]
Statements = tuple[Statement, ...]

SIDE = 80
GRID = 10
SIZES = ((160, 160), (208, 144), (144, 208))
TRAINING, VALIDATION, TEST, DISTILLATION = 0, 1, 2, 3
"""Purposes of random streams; streams of different purposes are independent."""
CROP_SIDE = (0.35, 0.9)
"""Range of a random square's side, as a share of the picture's shorter side."""
SEEN_SHARE = 0.6
"""Share of a part that must lie inside a view for the part to count as visible."""
SEEN_CELLS = 3
"""Number of cells of 2 x 2 pixels that a visible part must cover, in addition to `SEEN_SHARE`."""
PATCH_CELLS = 4
"""Number of a patch's 16 cells that a part must cover to be the part of that patch.

Of several such parts the largest counts.
"""


def stream(purpose: int, index: int) -> np.random.Generator:
    """Return the random generator of one scene or batch."""
    return np.random.default_rng([80, purpose, index])


@dataclass(frozen=True)
class View:
    """A square of a scene at the model's input size."""

    pixels: NDArray[np.uint8]
    """(80, 80, 3)"""
    patch_parts: NDArray[np.int64]
    """(100,): part under each patch, 0 for none, i for PARTS[i - 1]"""
    visible: frozenset[str]
    """Attributes whose part is visible"""


def centre_box(image: Image.Image) -> Box:
    """Return the middle square, which CLIP's resizing and centre crop keep."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def random_box(rng: np.random.Generator, image: Image.Image) -> Box:
    """Draw a square that lies inside the picture; sides are uniform on `CROP_SIDE`."""
    side = rng.uniform(*CROP_SIDE) * min(image.size)
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    return left, top, left + side, top + side


def render_view(scene: Scene, bird: Bird, box: Box) -> View:
    """Render a square of the scene, with the parts under its patches and its visible attributes."""
    pixels = np.asarray(scene.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    cells = np.asarray(
        Image.fromarray(scene.parts).resize(
            (SIDE // 2, SIDE // 2), Image.Resampling.NEAREST, box=box
        )
    )
    per_cell = np.eye(len(PARTS) + 1, dtype=np.int64)[cells]
    per_patch = (
        per_cell.reshape(GRID, SIDE // 2 // GRID, GRID, SIDE // 2 // GRID, -1)
        .sum((1, 3))
        .reshape(GRID * GRID, -1)
    )
    patch_parts = np.where(
        per_patch[:, 1:].max(1) >= PATCH_CELLS, 1 + per_patch[:, 1:].argmax(1), 0
    )
    return View(pixels, patch_parts, _visible(scene, bird, box, per_cell.sum((0, 1))))


def _visible(scene: Scene, bird: Bird, box: Box, cells: NDArray[np.int64]) -> frozenset[str]:
    """Select the attributes of visible parts; a missing crest is visible on a visible head.

    `cells` counts the cells of each part in the view: (1 + parts,).
    """
    area = ((box[2] - box[0]) / (SIDE // 2)) ** 2
    total = np.bincount(scene.parts.ravel(), minlength=len(PARTS) + 1)
    seen = {
        part
        for i, part in enumerate(PARTS, 1)
        if cells[i] >= SEEN_CELLS and cells[i] * area >= SEEN_SHARE * total[i]
    }
    return frozenset(
        name
        for name in ATTRIBUTES
        if ("head" if name == "crest" and bird[name] == "no" else part_of(name)) in seen
    )


def caption(
    rng: np.random.Generator, bird: Bird, visible: frozenset[str]
) -> tuple[str, Statements]:
    """Draw a true sentence about visible attributes; return it with all its statements.

    The sentence is about the bird's name, one part, or several parts.
    """
    shown = [name for name in ATTRIBUTES if name in visible]
    named = _name(rng, bird, visible)
    kind = rng.choice(["name", "part", "portrait"], p=[0.2, 0.35, 0.45])
    if kind == "name" and named.statements:
        return naming_sentence(rng, named), named.statements
    if kind == "portrait" and len(shown) > 1:
        count = int(rng.integers(2, min(len(shown), 5) + 1))
        chosen = rng.choice(shown, count, replace=False)
        statements = tuple((str(name), bird[str(name)]) for name in chosen)
        return portrait_sentence(rng, named, statements), statements + named.statements
    topics = [topic for topic in part_statements(bird) if all(name in visible for name, _ in topic)]
    statements = topics[int(rng.integers(len(topics)))]
    return one_part_sentence(rng, named, statements), statements + named.statements


def _name(rng: np.random.Generator, bird: Bird, visible: frozenset[str]) -> Name:
    """Draw a name whose statements are visible and that no test species has, or `ANONYMOUS`."""
    names = [
        one
        for one in possible_names(bird)
        if one.text not in reserved_names() and all(key in visible for key, _ in one.statements)
    ]
    return names[int(rng.integers(len(names)))] if names and rng.random() < 0.6 else ANONYMOUS


def attribute_texts(rng: np.random.Generator) -> list[str]:
    """Draw a sentence for each value of each attribute; all share one wording and one name."""
    names = [n for n in possible_names(training_bird(rng)) if n.text not in reserved_names()]
    name = ANONYMOUS if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
    wording = int(rng.integers(2**32))
    return [
        one_part_sentence(np.random.default_rng(wording), name, [(attribute, value)])
        for attribute, values in ATTRIBUTES.items()
        for value in values
    ]


@dataclass(frozen=True)
class Batch:
    """Views of several scenes, a caption of each view, and a text of each attribute value."""

    pixels: torch.Tensor
    """(views, 3, 80, 80) uint8"""
    patch_parts: torch.Tensor
    """(views, 100) part under each patch, 0 for none"""
    labels: torch.Tensor
    """(views, attributes) index of the bird's value, -100 if it is not visible"""
    captions: torch.Tensor
    """(views, context) tokens"""
    caption_matches: torch.Tensor
    """(views, views) True if the caption (column) is true of the view (row)"""
    attribute_texts: torch.Tensor
    """(values of all attributes, context) tokens"""


class TrainingBatches(torch.utils.data.Dataset[Batch]):
    """Batches of `scenes` scenes with 1 + `crops` views each: the whole picture and squares."""

    def __init__(self, folder: Path, scenes: int, crops: int, seed: int = 0) -> None:
        self.folder, self.scenes, self.crops, self.seed = folder, scenes, crops, seed
        self.tokenize = load_tokenizer(folder)

    def __getitem__(self, index: int) -> Batch:
        rng = stream(TRAINING, self.seed * 10_000_000 + index)
        birds, views = [], []
        for _ in range(self.scenes):
            bird = training_bird(rng)
            scene = draw_scene(rng, bird, SIZES[int(rng.integers(len(SIZES)))])
            scene_views = self._views(rng, scene, bird)
            birds += [bird] * len(scene_views)
            views += scene_views
        pairs = zip(birds, views, strict=True)
        captions = [caption(rng, bird, view.visible) for bird, view in pairs]
        return self._batch(birds, views, captions, attribute_texts(rng))

    def _views(self, rng: np.random.Generator, scene: Scene, bird: Bird) -> list[View]:
        """Render the whole picture and `crops` squares; redraw squares without visible parts.

        If the whole picture has no visible part, a square takes its place.
        """
        views = [render_view(scene, bird, centre_box(scene.image))]
        while len(views) <= self.crops or not views[0].visible:
            view = render_view(scene, bird, random_box(rng, scene.image))
            if view.visible:
                views = [*views, view] if views[0].visible else [view]
        return views

    def _batch(
        self,
        birds: list[Bird],
        views: list[View],
        captions: list[tuple[str, Statements]],
        texts: list[str],
    ) -> Batch:
        facts = [
            {(name, bird[name]) for name in view.visible}
            for bird, view in zip(birds, views, strict=True)
        ]
        labels = [
            [
                values.index(bird[name]) if name in view.visible else -100
                for name, values in ATTRIBUTES.items()
            ]
            for bird, view in zip(birds, views, strict=True)
        ]
        return Batch(
            pixels=torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2),
            patch_parts=torch.from_numpy(np.stack([view.patch_parts for view in views])),
            labels=torch.tensor(labels),
            captions=self.tokenize([sentence for sentence, _ in captions]),
            caption_matches=torch.tensor(
                [[fact.issuperset(statements) for _, statements in captions] for fact in facts]
            ),
            attribute_texts=self.tokenize(texts),
        )


def caption_corpus(count: int) -> list[str]:
    """Generate the sentences that the vocabulary is learned from, with every part visible."""
    sentences = []
    for index in range(count):
        rng = stream(TRAINING, index)
        sentences += [
            caption(rng, training_bird(rng), frozenset(ATTRIBUTES))[0],
            *attribute_texts(rng),
        ]
    return sentences
