"""Classes of the same texts have the same score to the bit, so that the first one wins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from pipeline.datasets.classes import Classes
from pipeline.kernels.matching import Descriptions
from pipeline.methods import METHODS
from pipeline.stage import Unit
from stages.scores import ScoresConfig, ScoresWorker, ViewReader

CLASSES, TEXTS, DIM, IMAGES = 365, 20, 128, 8
TWINS = 5, 362


def worker(method: str) -> ScoresWorker:
    """A worker over random vectors, in which two distant classes have the same texts."""
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(CLASSES, TEXTS, DIM), dim=-1)
    vectors[TWINS[1]] = vectors[TWINS[0]]
    labels = torch.arange(CLASSES).repeat_interleave(TEXTS)
    texts = Descriptions.from_rows(vectors.flatten(0, 1), labels, CLASSES)
    names = tuple(f"class {label % TWINS[1]}" for label in range(CLASSES))
    classes = Classes(names, tuple((name,) for name in names), (True,) * CLASSES)
    images = pd.DataFrame({"image_id": [str(i) for i in range(IMAGES)], "label": TWINS[0]})
    crops = F.normalize(torch.randn(IMAGES, 100, DIM), dim=-1).half().numpy()
    views = {name: ViewReader(name, crops, 100) for name in ("image", "raw", "squares")}
    config = ScoresConfig(methods=(method,), n=60, feature=False)
    chosen = {method: METHODS[method]()}
    sets = dict.fromkeys(chosen[method].texts, texts)
    return ScoresWorker(config, chosen, IMAGES, images, classes, sets, views, torch.device("cpu"))


@pytest.mark.parametrize("method", ["cupl", "wca", "abs"])
def test_twins_tie(method: str) -> None:
    made = worker(method)
    unit = Unit("00000", slice(0, IMAGES))
    logits = made.compute(unit, made.read(unit))["logits"][:, 0]
    assert np.array_equal(logits[:, TWINS[0]], logits[:, TWINS[1]])
    assert len(np.unique(logits[0])) == CLASSES - 1
