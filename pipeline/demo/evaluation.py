"""Measure the figures of the model cards, on validation scenes.

Neither training nor the test draws these scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import timm
import torch
from PIL import Image

from pipeline.demo.attention import class_attention, object_ratio, squashed
from pipeline.demo.attributes import ATTRIBUTES
from pipeline.demo.tokenizer import load_tokenizer
from pipeline.demo.validation import attribute_accuracy, validation_scene

SCENES = 600


def evaluate_clip(folder: Path) -> Iterator[str]:
    """Yield the accuracy of each attribute as a Markdown table, and the temperature T.

    T = 3 / logit scale corresponds to the paper's 0.03 at a logit scale of 100.
    """
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    shares = attribute_accuracy(model, load_tokenizer(folder), SCENES)
    yield "| attribute | values | chance | whole picture | random square |"
    yield "|---|---|---|---|---|"
    for name, (whole, square) in shares.items():
        count = len(ATTRIBUTES[name])
        yield f"| {name} | {count} | {1 / count:.2f} | {whole:.2f} | {square:.2f} |"
    scale = model.logit_scale.exp().item()
    yield f"\nlogit scale {scale:.2f}, so T = 3 / scale = {3 / scale:.3f}"


def evaluate_attention(folder: Path) -> Iterator[str]:
    """Yield, for each block, how often the ten most attended patches lie on the bird.

    The figure is relative to patches chosen at random (`object_ratio`).
    """
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    scenes = [validation_scene(index)[1] for index in range(SCENES)]
    pixels = torch.from_numpy(np.stack([squashed(scene.image) for scene in scenes]))
    masks = [squashed(Image.fromarray(scene.mask).convert("L")) for scene in scenes]
    rows = class_attention(model, pixels.permute(0, 3, 1, 2) / 127.5 - 1)
    for block in range(rows.shape[1]):
        ratio = object_ratio(rows[:, block], torch.from_numpy(np.stack(masks)) / 255)
        yield f"block {block + 1}: {ratio:.2f} times as often on the bird as chance"
