"""Trains the demo's CLIP from random weights: one recipe, stopped and resumed at will.

Batches come by number, so a run that was stopped goes on with the batch it would have had.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from pipeline.demo.lessons import Batch, Lessons
from pipeline.demo.losses import losses
from pipeline.demo.schedule import rate
from pipeline.demo.towers import Towers, new_model
from pipeline.demo.validation import attribute_accuracy
from pipeline.demo.words import load_tokenizer

log = logging.getLogger(__name__)

LOG_EVERY = 20
SAVE_EVERY = 200


@dataclass(frozen=True)
class Recipe:
    """How the model is trained; a step sees scenes * (1 + crops) views."""

    steps: int = 4000
    scenes: int = 32
    crops: int = 3
    peak_rate: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 0.05
    scaffold_share: float = 0.5
    """The share of the steps over which the scaffold losses fade out."""
    spread_from: int = 1200
    """The step from which sentences of different values are kept apart."""
    seed: int = 0

    @property
    def views(self) -> int:
        """Views in a step."""
        return self.scenes * (1 + self.crops)

    def scaffold(self, step: int) -> float:
        """The weight of the scaffold losses at a step."""
        return max(0.0, 1 - step / (self.scaffold_share * self.steps))


class Training:
    """A model on its way through a recipe, with a checkpoint file that any later one continues."""

    def __init__(self, folder: Path, checkpoint: Path, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.folder, self.checkpoint, self.recipe = folder, checkpoint, recipe
        self.towers = Towers(new_model(folder))
        groups = decay_groups(self.towers.clip, recipe.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)

    def run(self) -> open_clip.CLIP:
        """Train from where the checkpoint is to the end of the recipe."""
        first, last = self.restore(), self.recipe.steps
        lessons = Lessons(self.folder, self.recipe.scenes, self.recipe.crops, self.recipe.seed)
        loader = torch.utils.data.DataLoader(
            lessons, None, sampler=range(first, last), num_workers=1, prefetch_factor=4
        )
        began = time.monotonic()
        for step, batch in enumerate(loader, first):
            found = self.step(step, batch)
            done = step + 1
            if done % LOG_EVERY == 0:
                self.report(done, (time.monotonic() - began) / (done - first), found)
            if done % SAVE_EVERY == 0 or done == last:
                self.save(done)
                self.examine()
        return self.towers.clip

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch; its losses."""
        recipe, clip = self.recipe, self.towers.clip
        for group in self.optimiser.param_groups:
            group["lr"] = rate(step, recipe.steps, recipe.warmup, recipe.peak_rate)
        found = losses(self.towers, batch, recipe.scaffold(step), step >= recipe.spread_from)
        torch.autograd.backward(list(found.values()))
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        clip.logit_scale.data.clamp_(max=math.log(100.0))
        return found

    def report(self, done: int, seconds: float, found: dict[str, Tensor]) -> None:
        """Log the progress, at `seconds` a step, and the last losses."""
        views, minutes = self.recipe.views, (self.recipe.steps - done) * seconds / 60
        pace = f"{done * views} views, {views / seconds:.0f}/s, {minutes:.0f} min left"
        scale = self.towers.clip.logit_scale.exp().item()
        terms = ", ".join(f"{name} {value.item():.3f}" for name, value in found.items())
        log.info("step %d, %s, scale %.1f: %s", done, pace, scale, terms)

    def examine(self) -> None:
        """Log how well each attribute is read on the validation scenes."""
        shares = attribute_accuracy(self.towers.clip, load_tokenizer(self.folder))
        terms = ", ".join(f"{name} {both[0]:.2f} {both[1]:.2f}" for name, both in shares.items())
        log.info("read rightly on wholes and squares: %s", terms)

    def save(self, done: int) -> None:
        """Replace the checkpoint, so that there is a whole one at any time."""
        state = {
            "step": done,
            "recipe": asdict(self.recipe),
            "clip": self.towers.clip.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def restore(self) -> int:
        """Load the checkpoint, if there is one; the number of steps done."""
        if not self.checkpoint.exists():
            return 0
        state = torch.load(self.checkpoint, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{self.checkpoint} is of another recipe: {state['recipe']}")
        self.towers.clip.load_state_dict(state["clip"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])


def decay_groups(clip: open_clip.CLIP, decay: float) -> list[dict[str, object]]:
    """Weight matrices decay; embeddings, gains, biases and the logit scale do not."""
    decaying: list[Tensor] = []
    spared: list[Tensor] = []
    for name, weight in clip.named_parameters():
        decays = weight.ndim > 1 and name not in clip.no_weight_decay()
        (decaying if decays else spared).append(weight)
    return [
        {"params": decaying, "weight_decay": decay},
        {"params": spared, "weight_decay": 0.0},
    ]
