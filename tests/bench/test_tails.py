"""The encoders whose costs are measured have every kind of tail; what is timed is not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import open_clip
import pytest
import torch

from pipeline.bench.tails import ENCODERS, measure, windows
from pipeline.models.clip.dimensions import Pooling
from pipeline.models.clip.towers import tower_of
from pipeline.models.clip.vision import vision_of
from tests.helpers import families


def test_windows_differ_and_have_the_sides_of_the_settings() -> None:
    found = windows(14, 60)
    left, top, right, bottom = found.T
    assert len({tuple(each) for each in found.tolist()}) == 60
    assert torch.equal(right - left, bottom - top)
    assert ((right - left).min(), (right - left).max()) == (7, 12)
    assert int(found.min()) >= 0
    assert int(found.max()) <= 14


def test_every_pooling_is_measured() -> None:
    found = set()
    for name, build in ENCODERS.items():
        (given,) = build.args  # type: ignore[attr-defined]
        known = open_clip.get_model_config(name) or {"transformers": given}
        found.add(vision_of(name, known).pooling)
    assert found == set(get_args(Pooling))


@pytest.mark.parametrize(
    ("name", "layers"),
    [("siglip", ["the last block", "the pooling"]), ("clipa", ["the last block"])],
)
def test_windows_are_measured_at_every_end(name: str, layers: list[str], tmp_path: Path) -> None:
    family = families.FAMILIES[name]
    with families.known(family):
        model = families.write(tmp_path / "model", family)
        vision = vision_of(name, family.config)
        costs = measure(name, (tower_of(model.visual), vision), pairs=1, count=3)
    assert [cost.layer for cost in costs] == layers
    assert all(cost.passes > 0 and cost.pooling == vision.pooling for cost in costs)
