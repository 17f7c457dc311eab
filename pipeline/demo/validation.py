"""Accuracy of the demo's CLIP on each attribute, measured on validation scenes.

Neither training nor the test draws these scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.demo.attributes import ATTRIBUTES, Bird
from pipeline.demo.phrases import HAVING, noun_phrase
from pipeline.demo.species import training_bird
from pipeline.demo.training_data import (
    SIZES,
    VALIDATION,
    View,
    centre_box,
    random_box,
    render_view,
    stream,
)
from pipeline.demo.world import Scene, draw_scene

if TYPE_CHECKING:
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer


def validation_scene(index: int) -> tuple[Bird, Scene, View, View]:
    """Draw a bird, its scene, a view of the whole picture and a view of a random square."""
    rng = stream(VALIDATION, index)
    bird = training_bird(rng)
    scene = draw_scene(rng, bird, SIZES[index % len(SIZES)])
    whole, square = (centre_box(scene.image), random_box(rng, scene.image))
    return bird, scene, render_view(scene, bird, whole), render_view(scene, bird, square)


def as_input(views: Sequence[View]) -> Tensor:
    """Stack the pixels of views into a model input: float32 (n, 3, 80, 80) from -1 to 1."""
    return (
        torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2).float()
        / 127.5
        - 1
    )


@torch.no_grad()
def attribute_accuracy(
    clip: open_clip.CLIP, tokenizer: SimpleTokenizer, count: int = 300
) -> dict[str, tuple[float, float]]:
    """Measure zero-shot accuracy for each attribute, over the views in which it is visible.

    The values are (accuracy on whole pictures, accuracy on random squares) of `count` scenes.
    """
    birds, _, wholes, squares = zip(*(validation_scene(i) for i in range(count)), strict=True)
    embedded = [_image_vectors(clip, views) for views in (wholes, squares)]
    accuracies = {}
    for name, values in ATTRIBUTES.items():
        texts = torch.stack(
            [_text_vector(clip, tokenizer, noun_phrase([(name, value)])) for value in values]
        )
        labels = np.array([values.index(bird[name]) for bird in birds])
        shares = []
        for vectors, views in zip(embedded, (wholes, squares), strict=True):
            correct = (vectors @ texts.T).argmax(1).numpy() == labels
            shares.append(float(correct[[name in view.visible for view in views]].mean()))
        accuracies[name] = (shares[0], shares[1])
    return accuracies


def _image_vectors(clip: open_clip.CLIP, views: Sequence[View]) -> Tensor:
    return torch.cat(
        [clip.encode_image(part, normalize=True) for part in torch.split(as_input(views), 100)]
    )


def _text_vector(clip: open_clip.CLIP, tokenizer: SimpleTokenizer, phrase: str) -> Tensor:
    """Encode a phrase as the mean over all sentences with a noun phrase: (dim,), unit length."""
    texts = tokenizer([template.format("a bird", phrase) for template in HAVING])
    return F.normalize(clip.encode_text(texts, normalize=True).mean(0), dim=0)
