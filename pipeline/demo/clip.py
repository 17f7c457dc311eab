"""Train the demo's CLIP from random weights, with checkpoints to resume from.

Batch i depends on the seed and on i alone, so a resumed training continues with the batch that an
uninterrupted one would have used.
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

from pipeline.demo.losses import losses
from pipeline.demo.schedule import learning_rate
from pipeline.demo.tokenizer import load_tokenizer
from pipeline.demo.towers import Towers, new_model
from pipeline.demo.training_data import Batch, TrainingBatches
from pipeline.demo.validation import attribute_accuracy

log = logging.getLogger(__name__)

LOG_EVERY = 20
SAVE_EVERY = 200


@dataclass(frozen=True)
class TrainingConfig:
    """Training configuration. A step uses `scenes` * (1 + `crops`) views."""

    steps: int = 4000
    scenes: int = 32
    crops: int = 3
    peak_rate: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 0.05
    scaffold_share: float = 0.5
    """Share of the steps over which the scaffold losses fade out linearly (`losses.py`)."""
    spread_from: int = 1200
    """First step with the loss that separates sentences about different values."""
    seed: int = 0

    @property
    def views(self) -> int:
        """Number of views in a step."""
        return self.scenes * (1 + self.crops)

    def scaffold(self, step: int) -> float:
        """Return the weight of the scaffold losses at a step."""
        return max(0.0, 1 - step / (self.scaffold_share * self.steps))


class Training:
    """Model and optimiser of one training, with the checkpoint file that a later one resumes."""

    def __init__(self, folder: Path, checkpoint: Path, config: TrainingConfig) -> None:
        torch.manual_seed(config.seed)
        self.folder, self.checkpoint, self.config = folder, checkpoint, config
        self.towers = Towers(new_model(folder))
        groups = decay_groups(self.towers.clip, config.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)

    def run(self) -> open_clip.CLIP:
        """Train from the checkpoint, or from the start without one, to the last step."""
        config = self.config
        first, last = self.restore(), config.steps
        batches = TrainingBatches(self.folder, config.scenes, config.crops, config.seed)
        loader = torch.utils.data.DataLoader(
            batches, None, sampler=range(first, last), num_workers=1, prefetch_factor=4
        )
        start = time.monotonic()
        for step, batch in enumerate(loader, first):
            terms = self.step(step, batch)
            done = step + 1
            if done % LOG_EVERY == 0:
                self.log_progress(done, (time.monotonic() - start) / (done - first), terms)
            if done % SAVE_EVERY == 0 or done == last:
                self.save(done)
                self.log_accuracy()
        return self.towers.clip

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Update the model on one batch; return its losses by name."""
        config, clip = self.config, self.towers.clip
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.warmup, config.peak_rate)
        terms = losses(self.towers, batch, config.scaffold(step), step >= config.spread_from)
        torch.autograd.backward(list(terms.values()))
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        clip.logit_scale.data.clamp_(max=math.log(100.0))
        return terms

    def log_progress(self, done: int, seconds: float, terms: dict[str, Tensor]) -> None:
        """Log the steps done, the time left at `seconds` per step, and the last losses."""
        views, minutes = self.config.views, (self.config.steps - done) * seconds / 60
        pace = f"{done * views} views, {views / seconds:.0f}/s, {minutes:.0f} min left"
        scale = self.towers.clip.logit_scale.exp().item()
        values = ", ".join(f"{name} {value.item():.3f}" for name, value in terms.items())
        log.info("step %d, %s, logit scale %.1f, losses: %s", done, pace, scale, values)

    def log_accuracy(self) -> None:
        """Log the accuracy of each attribute on the validation scenes."""
        shares = attribute_accuracy(self.towers.clip, load_tokenizer(self.folder))
        values = ", ".join(f"{name} {both[0]:.2f} {both[1]:.2f}" for name, both in shares.items())
        log.info("validation accuracy on whole pictures and random squares: %s", values)

    def save(self, done: int) -> None:
        """Write the checkpoint atomically: an interruption leaves the previous one intact."""
        state = {
            "step": done,
            "recipe": asdict(self.config),
            "clip": self.towers.clip.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def restore(self) -> int:
        """Load the checkpoint if it exists; return the number of steps done.

        Raises ValueError if it was written under another configuration.
        """
        if not self.checkpoint.exists():
            return 0
        state = torch.load(self.checkpoint, weights_only=True)
        if state["recipe"] != asdict(self.config):
            raise ValueError(
                f"{self.checkpoint} belongs to another training configuration, {state['recipe']}; "
                "delete it to start over"
            )
        self.towers.clip.load_state_dict(state["clip"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])


def decay_groups(clip: open_clip.CLIP, decay: float) -> list[dict[str, object]]:
    """Group parameters for AdamW: weight decay on matrices only.

    Embeddings, gains, biases and the logit scale are not decayed.
    """
    decayed: list[Tensor] = []
    undecayed: list[Tensor] = []
    for name, weight in clip.named_parameters():
        decays = weight.ndim > 1 and name not in clip.no_weight_decay()
        (decayed if decays else undecayed).append(weight)
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
