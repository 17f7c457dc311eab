"""Self-distillation (DINO) for the demo's attention model.

A student learns to answer as a slowly moving average of itself, the teacher, does for other views
of the same bird: no labels, no text. The views come from two scenes of one individual, so that the
bird is what they share and the ground is not; that pairing is the only thing the model is told.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.demo.attention import squashed
from pipeline.demo.lessons import DISTILLATION, SIZES, random_box, stream
from pipeline.demo.schedule import rate
from pipeline.demo.species import training_bird
from pipeline.demo.world import draw_scene

Pixels = NDArray[np.uint8]

log = logging.getLogger(__name__)

LOCAL_SIDE = 40


@dataclass(frozen=True)
class Recipe:
    """How the model is trained; a step sees `birds` individuals in two scenes each."""

    steps: int = 500
    birds: int = 32
    local_views: int = 4
    prototypes: int = 512
    peak_rate: float = 2e-4
    warmup: int = 50
    weight_decay: float = 0.04
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    teacher_memory: float = 0.99
    centre_memory: float = 0.9
    seed: int = 0


class Pairs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Batches by number, uint8: wholes (2, birds, 3, 80, 80), squares (views, birds, 3, 40, 40)."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = stream(DISTILLATION, self.recipe.seed * 10_000_000 + index)
        wholes, squares = zip(*(self._bird(rng) for _ in range(self.recipe.birds)), strict=True)
        return _stacked(wholes), _stacked(squares)

    def _bird(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Two scenes of one bird as a whole, and squares from each by turns."""
        bird = training_bird(rng)
        scenes = [draw_scene(rng, bird, SIZES[int(rng.integers(3))]).image for _ in range(2)]
        turns = [scenes[i % 2] for i in range(self.recipe.local_views)]
        return np.stack([squashed(s) for s in scenes]), np.stack([_square(rng, s) for s in turns])


def _square(rng: np.random.Generator, image: Image.Image) -> Pixels:
    size, box = (LOCAL_SIDE, LOCAL_SIDE), random_box(rng, image)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box))


def _stacked(birds: tuple[Pixels, ...]) -> Tensor:
    """(views, side, side, 3) of each bird to (views, birds, 3, side, side)."""
    return torch.from_numpy(np.stack(birds, 1)).permute(0, 1, 4, 2, 3)


class Answerer(nn.Module):
    """A transformer and a head that turns its class token into scores over prototypes."""

    def __init__(self, trunk: VisionTransformer, prototypes: int) -> None:
        super().__init__()
        width = trunk.embed_dim
        self.trunk = trunk
        self.head = nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Linear(512, 128))
        self.prototypes = nn.Parameter(torch.randn(prototypes, 128))

    def forward(self, pixels: Tensor) -> Tensor:
        """(views, birds, 3, side, side) uint8 to cosines (views, birds, prototypes)."""
        features = self.trunk.forward_features(pixels.flatten(0, 1).float() / 127.5 - 1)[:, 0]
        cosines = F.normalize(self.head(features), dim=-1) @ F.normalize(self.prototypes, dim=-1).T
        return cosines.float().view(*pixels.shape[:2], -1)


def distil(trunk: VisionTransformer, recipe: Recipe) -> VisionTransformer:
    """Train `trunk`, which must take any image size; the teacher's trunk is the result."""
    torch.manual_seed(recipe.seed)
    for block in trunk.blocks:
        block.attn.fused_attn = False  # plain matrix products have the quicker gradient on a CPU
    student = Answerer(trunk, recipe.prototypes)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        student.parameters(), weight_decay=recipe.weight_decay, fused=True
    )
    centre = torch.zeros(recipe.prototypes)
    loader = torch.utils.data.DataLoader(
        Pairs(recipe),
        batch_size=None,
        sampler=range(recipe.steps),
        num_workers=1,
        prefetch_factor=4,
    )
    began = time.monotonic()
    for step, (wholes, squares) in enumerate(loader):
        optimiser.param_groups[0]["lr"] = rate(step, recipe.steps, recipe.warmup, recipe.peak_rate)
        with torch.autocast("cpu", torch.bfloat16):
            asked = teacher(wholes)
            given = torch.cat([student(wholes), student(squares)])
        loss = agreement(asked, given, centre, recipe)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        centre.lerp_(asked.mean((0, 1)), 1 - recipe.centre_memory)
        follow(teacher, student, memory(step, recipe))
        if (step + 1) % 20 == 0:
            log.info(
                "step %d of %d, %.2f s each, loss %.3f",
                step + 1,
                recipe.steps,
                (time.monotonic() - began) / (step + 1),
                loss.item(),
            )
    return teacher.trunk


def agreement(asked: Tensor, given: Tensor, centre: Tensor, recipe: Recipe) -> Tensor:
    """Mean cross-entropy of each student view with the teacher's answer to each other whole: (2, n,
    p), (views, n, p), (p).
    """
    targets = ((asked - centre) / recipe.teacher_temperature).softmax(-1)
    answers = (given / recipe.student_temperature).log_softmax(-1)
    terms = [
        -(targets[i] * answers[j]).sum(-1).mean()
        for i in range(len(asked))
        for j in range(len(given))
        if i != j
    ]
    return torch.stack(terms).mean()


def memory(step: int, recipe: Recipe) -> float:
    """How much of itself the teacher keeps at a step: rises to all of it at the end."""
    return 1 - (1 - recipe.teacher_memory) * (math.cos(math.pi * step / recipe.steps) + 1) / 2


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, kept: float) -> None:
    """Move the teacher's weights a little towards the student's."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - kept)
