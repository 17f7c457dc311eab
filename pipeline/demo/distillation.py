"""Self-distillation (DINO) for the demo's attention model.

The student is trained to predict the output of the teacher, its exponential moving average, for
other views of the same bird. There are no labels and no texts. The views come from two scenes of
one individual, which share the bird but not the ground; that pairing is the only supervision.
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
from pipeline.demo.schedule import learning_rate
from pipeline.demo.species import training_bird
from pipeline.demo.training_data import DISTILLATION, SIZES, random_box, stream
from pipeline.demo.world import draw_scene

Pixels = NDArray[np.uint8]

log = logging.getLogger(__name__)

LOCAL_SIDE = 40
"""Side of a local view in pixels; global views are 80 x 80."""


@dataclass(frozen=True)
class TrainingConfig:
    """Training configuration. A step uses `birds` individuals in two scenes each."""

    steps: int = 500
    birds: int = 32
    local_views: int = 4
    prototypes: int = 512
    peak_rate: float = 2e-4
    warmup: int = 50
    weight_decay: float = 0.04
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    teacher_momentum: float = 0.99
    centre_momentum: float = 0.9
    seed: int = 0


class DistillationBatches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Global and local views of random birds; item i depends on the seed and on i alone.

    An item is two uint8 tensors: global views (2, birds, 3, 80, 80), which show a whole scene, and
    local views (`local_views`, birds, 3, 40, 40), which show random squares.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = stream(DISTILLATION, self.config.seed * 10_000_000 + index)
        global_views, local_views = zip(
            *(self._bird(rng) for _ in range(self.config.birds)), strict=True
        )
        return _stack_views(global_views), _stack_views(local_views)

    def _bird(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Draw two whole scenes of one bird, and squares that alternate between the two."""
        bird = training_bird(rng)
        scenes = [draw_scene(rng, bird, SIZES[int(rng.integers(3))]).image for _ in range(2)]
        squares = [_local_view(rng, scenes[i % 2]) for i in range(self.config.local_views)]
        return np.stack([squashed(scene) for scene in scenes]), np.stack(squares)


def _local_view(rng: np.random.Generator, image: Image.Image) -> Pixels:
    size, box = (LOCAL_SIDE, LOCAL_SIDE), random_box(rng, image)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box))


def _stack_views(birds: tuple[Pixels, ...]) -> Tensor:
    """Stack (views, side, side, 3) of each bird into (views, birds, 3, side, side)."""
    return torch.from_numpy(np.stack(birds, 1)).permute(0, 1, 4, 2, 3)


class PrototypeNetwork(nn.Module):
    """Vision transformer with DINO's head, which maps the class token to prototype logits."""

    def __init__(self, backbone: VisionTransformer, prototypes: int) -> None:
        super().__init__()
        width = backbone.embed_dim
        self.backbone = backbone
        self.head = nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Linear(512, 128))
        self.prototypes = nn.Parameter(torch.randn(prototypes, 128))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 (views, birds, 3, side, side) to cosines (views, birds, prototypes)."""
        features = self.backbone.forward_features(pixels.flatten(0, 1).float() / 127.5 - 1)[:, 0]
        cosines = F.normalize(self.head(features), dim=-1) @ F.normalize(self.prototypes, dim=-1).T
        return cosines.float().view(*pixels.shape[:2], -1)


def distil(backbone: VisionTransformer, config: TrainingConfig) -> VisionTransformer:
    """Train `backbone`, which must accept any image size; return the teacher's backbone."""
    torch.manual_seed(config.seed)
    for block in backbone.blocks:
        block.attn.fused_attn = False  # plain matrix products have a faster backward on a CPU
    student = PrototypeNetwork(backbone, config.prototypes)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        student.parameters(), weight_decay=config.weight_decay, fused=True
    )
    centre = torch.zeros(config.prototypes)
    loader = torch.utils.data.DataLoader(
        DistillationBatches(config),
        batch_size=None,
        sampler=range(config.steps),
        num_workers=1,
        prefetch_factor=4,
    )
    start = time.monotonic()
    for step, (global_views, local_views) in enumerate(loader):
        optimiser.param_groups[0]["lr"] = learning_rate(
            step, config.steps, config.warmup, config.peak_rate
        )
        with torch.autocast("cpu", torch.bfloat16):
            teacher_logits = teacher(global_views)
            student_logits = torch.cat([student(global_views), student(local_views)])
        loss = dino_loss(teacher_logits, student_logits, centre, config)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        centre.lerp_(teacher_logits.mean((0, 1)), 1 - config.centre_momentum)
        update_teacher(teacher, student, teacher_momentum(step, config))
        if (step + 1) % 20 == 0:
            log.info(
                "step %d of %d, %.2f s each, loss %.3f",
                step + 1,
                config.steps,
                (time.monotonic() - start) / (step + 1),
                loss.item(),
            )
    return teacher.backbone


def dino_loss(
    teacher_logits: Tensor, student_logits: Tensor, centre: Tensor, config: TrainingConfig
) -> Tensor:
    """Compute DINO's loss: cross-entropy of student views with the teacher's global views.

    Mean over all pairs of different views, without the pairs in which both saw the same global
    view. Teacher logits are (2, n, prototypes), student logits (views, n, prototypes) with the
    global views first, `centre` is (prototypes,).
    """
    targets = ((teacher_logits - centre) / config.teacher_temperature).softmax(-1)
    log_probs = (student_logits / config.student_temperature).log_softmax(-1)
    terms = [
        -(targets[i] * log_probs[j]).sum(-1).mean()
        for i in range(len(teacher_logits))
        for j in range(len(student_logits))
        if i != j
    ]
    return torch.stack(terms).mean()


def teacher_momentum(step: int, config: TrainingConfig) -> float:
    """Return the teacher's momentum at a step: a cosine from `config.teacher_momentum` up to 1."""
    return 1 - (1 - config.teacher_momentum) * (math.cos(math.pi * step / config.steps) + 1) / 2


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update the teacher: teacher = momentum * teacher + (1 - momentum) * student."""
    for average, weight in zip(teacher.parameters(), student.parameters(), strict=True):
        average.lerp_(weight, 1 - momentum)
