"""How well a CLIP of the demo reads each attribute, on scenes that neither training nor the test
draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.demo.attributes import ATTRIBUTES, Bird
from pipeline.demo.lessons import SIZES, VALIDATION, View, look, random_box, stream, whole_box
from pipeline.demo.phrases import HAVING, noun_phrase
from pipeline.demo.species import training_bird
from pipeline.demo.world import Scene, draw_scene

if TYPE_CHECKING:
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer


def validation_scene(index: int) -> tuple[Bird, Scene, View, View]:
    """A bird, its scene, a look at the whole picture and one at a random square of it."""
    rng = stream(VALIDATION, index)
    bird = training_bird(rng)
    scene = draw_scene(rng, bird, SIZES[index % len(SIZES)])
    whole, square = (whole_box(scene.image), random_box(rng, scene.image))
    return bird, scene, look(scene, bird, whole), look(scene, bird, square)


def as_input(views: Sequence[View]) -> Tensor:
    """Pixels as the model takes them: (n, 3, 80, 80), from -1 to 1."""
    return (
        torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2).float()
        / 127.5
        - 1
    )


@torch.no_grad()
def attribute_accuracy(
    clip: open_clip.CLIP, tokenizer: SimpleTokenizer, count: int = 300
) -> dict[str, tuple[float, float]]:
    """For each attribute, the share read rightly where it is in sight: on whole pictures, and on
    random squares.
    """
    birds, _, wholes, squares = zip(*(validation_scene(i) for i in range(count)), strict=True)
    embedded = [_image_vectors(clip, views) for views in (wholes, squares)]
    result = {}
    for name, values in ATTRIBUTES.items():
        texts = torch.stack(
            [_text_vector(clip, tokenizer, noun_phrase([(name, value)])) for value in values]
        )
        answers = np.array([values.index(bird[name]) for bird in birds])
        shares = []
        for vectors, views in zip(embedded, (wholes, squares), strict=True):
            right = (vectors @ texts.T).argmax(1).numpy() == answers
            shares.append(float(right[[name in view.visible for view in views]].mean()))
        result[name] = (shares[0], shares[1])
    return result


def _image_vectors(clip: open_clip.CLIP, views: Sequence[View]) -> Tensor:
    return torch.cat(
        [clip.encode_image(part, normalize=True) for part in torch.split(as_input(views), 100)]
    )


def _text_vector(clip: open_clip.CLIP, tokenizer: SimpleTokenizer, phrase: str) -> Tensor:
    texts = tokenizer([template.format("a bird", phrase) for template in HAVING])
    return F.normalize(clip.encode_text(texts, normalize=True).mean(0), dim=0)
