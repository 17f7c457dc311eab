"""Training data, drawn as it is needed: batch i is a function of the seed and of i alone.

A scene is drawn once and looked at several times: as a whole, the way CLIP's preprocessing does,
and in random squares. Captions tell only what a view shows. Which caption is true of which view is
known exactly, so a caption that happens to fit another view of the batch is never called wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.demo.attributes import ATTRIBUTES, PARTS, Bird, Claim, part_of
from pipeline.demo.phrases import (
    ANONYMOUS,
    Name,
    naming_sentence,
    one_part_sentence,
    part_claims,
    portrait_sentence,
    possible_names,
)
from pipeline.demo.species import reserved_names, training_bird
from pipeline.demo.words import load_tokenizer
from pipeline.demo.world import Scene, draw_scene

Box = tuple[float, float, float, float]
Claims = tuple[Claim, ...]

SIDE = 80
GRID = 10
SIZES = ((160, 160), (208, 144), (144, 208))
TRAINING, VALIDATION, TEST, DISTILLATION = 0, 1, 2, 3
"""Streams of seeds; nothing drawn from one is drawn from another."""
CROP_SIDE = (0.35, 0.9)
SEEN_SHARE = 0.6
SEEN_CELLS = 3
"""A part is in sight when this share of it is inside the view, and it covers as many cells of 2 x 2
pixels.
"""
PATCH_CELLS = 4
"""A patch lies on a part that covers as many of its 16 cells, and more than any other part."""


def stream(purpose: int, index: int) -> np.random.Generator:
    """The generator of one scene or batch."""
    return np.random.default_rng([80, purpose, index])


@dataclass(frozen=True)
class View:
    """One look at a scene: pixels (80, 80, 3), the part under each patch (100; 0 is none), and what
    is in sight.
    """

    pixels: NDArray[np.uint8]
    patches: NDArray[np.int64]
    visible: frozenset[str]


def whole_box(image: Image.Image) -> Box:
    """The middle square, which is what resizing the short side and cropping the centre keeps."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def random_box(rng: np.random.Generator, image: Image.Image) -> Box:
    """A square anywhere in the picture."""
    side = rng.uniform(*CROP_SIDE) * min(image.size)
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    return left, top, left + side, top + side


def look(scene: Scene, bird: Bird, box: Box) -> View:
    """What a square of the scene shows at the model's size."""
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
    patches = np.where(per_patch[:, 1:].max(1) >= PATCH_CELLS, 1 + per_patch[:, 1:].argmax(1), 0)
    return View(pixels, patches, _visible(scene, bird, box, per_cell.sum((0, 1))))


def _visible(scene: Scene, bird: Bird, box: Box, cells: NDArray[np.int64]) -> frozenset[str]:
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


def caption(rng: np.random.Generator, bird: Bird, visible: frozenset[str]) -> tuple[str, Claims]:
    """A true sentence about what is in sight, and all it claims: a name, one part, or several
    parts.
    """
    shown = [name for name in ATTRIBUTES if name in visible]
    named = _name(rng, bird, visible)
    kind = rng.choice(["name", "part", "portrait"], p=[0.2, 0.35, 0.45])
    if kind == "name" and named.claims:
        return naming_sentence(rng, named), named.claims
    if kind == "portrait" and len(shown) > 1:
        told = rng.choice(shown, int(rng.integers(2, min(len(shown), 5) + 1)), replace=False)
        claims = tuple((str(name), bird[str(name)]) for name in told)
        return portrait_sentence(rng, named, claims), claims + named.claims
    topics = [claims for claims in part_claims(bird) if all(name in visible for name, _ in claims)]
    claims = topics[int(rng.integers(len(topics)))]
    return one_part_sentence(rng, named, claims), claims + named.claims


def _name(rng: np.random.Generator, bird: Bird, visible: frozenset[str]) -> Name:
    names = [
        one
        for one in possible_names(bird)
        if one.text not in reserved_names() and all(key in visible for key, _ in one.claims)
    ]
    return names[int(rng.integers(len(names)))] if names and rng.random() < 0.6 else ANONYMOUS


def questions(rng: np.random.Generator) -> list[str]:
    """A sentence for each value of each attribute, all of one wording and about one name."""
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
    """`views` looks at `scenes` scenes, their captions and the questions, as tensors."""

    pixels: torch.Tensor
    """(views, 3, 80, 80) uint8"""
    patches: torch.Tensor
    """(views, 100) the part each patch lies on, 0 for none"""
    answers: torch.Tensor
    """(views, attributes) index of the bird's value, -100 where it is not in sight"""
    captions: torch.Tensor
    """(views, context) tokens"""
    truth: torch.Tensor
    """(views, views) whether a caption (column) is true of a view (row)"""
    questions: torch.Tensor
    """(values of all attributes, context) tokens"""


class Lessons(torch.utils.data.Dataset[Batch]):
    """Batches by number, of `scenes` scenes seen as a whole and in `crops` squares each."""

    def __init__(self, folder: Path, scenes: int, crops: int, seed: int = 0) -> None:
        self.folder, self.scenes, self.crops, self.seed = folder, scenes, crops, seed
        self.tokenize = load_tokenizer(folder)

    def __getitem__(self, index: int) -> Batch:
        rng = stream(TRAINING, self.seed * 10_000_000 + index)
        birds, views = [], []
        for _ in range(self.scenes):
            bird = training_bird(rng)
            scene = draw_scene(rng, bird, SIZES[int(rng.integers(len(SIZES)))])
            found = self._looks(rng, scene, bird)
            birds += [bird] * len(found)
            views += found
        told = [caption(rng, bird, view.visible) for bird, view in zip(birds, views, strict=True)]
        return self._batch(birds, views, told, questions(rng))

    def _looks(self, rng: np.random.Generator, scene: Scene, bird: Bird) -> list[View]:
        """The whole and the squares; squares that show nothing nameable are drawn again."""
        views = [look(scene, bird, whole_box(scene.image))]
        while len(views) <= self.crops or not views[0].visible:
            view = look(scene, bird, random_box(rng, scene.image))
            if view.visible:
                views = [*views, view] if views[0].visible else [view]
        return views

    def _batch(
        self, birds: list[Bird], views: list[View], told: list[tuple[str, Claims]], asked: list[str]
    ) -> Batch:
        facts = [
            {(name, bird[name]) for name in view.visible}
            for bird, view in zip(birds, views, strict=True)
        ]
        answers = [
            [
                values.index(bird[name]) if name in view.visible else -100
                for name, values in ATTRIBUTES.items()
            ]
            for bird, view in zip(birds, views, strict=True)
        ]
        return Batch(
            pixels=torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2),
            patches=torch.from_numpy(np.stack([view.patches for view in views])),
            answers=torch.tensor(answers),
            captions=self.tokenize([sentence for sentence, _ in told]),
            truth=torch.tensor([[fact.issuperset(claims) for _, claims in told] for fact in facts]),
            questions=self.tokenize(asked),
        )


def caption_corpus(count: int) -> list[str]:
    """Sentences to learn the vocabulary from: captions of birds seen whole."""
    sentences = []
    for index in range(count):
        rng = stream(TRAINING, index)
        sentences += [caption(rng, training_bird(rng), frozenset(ATTRIBUTES))[0], *questions(rng)]
    return sentences
