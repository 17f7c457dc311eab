"""The program that tests the promise: its replay is that of the reference, its worlds are many."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.demo.settling import orders, replay, worlds
from tests.reference import settling


def test_replay_stops_each_image_as_the_reference_does() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(40, 20, 3)) + rng.normal(size=(40, 1, 3))
    others = rng.normal(size=(40, 3))
    found = replay(torch.tensor(scores), torch.tensor(others), 0.05)
    stops = [settling.stop(s, o, 20, 0.05) for s, o in zip(scores, others, strict=True)]
    np.testing.assert_array_equal(found.used, [used for used, _, _ in stops])
    np.testing.assert_array_equal(found.decided, [front for _, _, front in stops])
    final = (others + scores.sum(axis=1)).argmax(axis=1)
    assert found.wrong == sum(front != end for (*_, front), end in zip(stops, final, strict=True))
    assert 8 == found.used.min() < found.used.max() == 20


def test_orders_hold_the_same_draws() -> None:
    scores = torch.randn(3, 7, 2)
    first, *more = orders(scores, 3)
    assert (first == scores).all()
    for order in more:
        assert not (order == scores).all()
        assert (order[:, :, 0].sort(dim=1).values == scores[:, :, 0].sort(dim=1).values).all()


def test_worlds_are_twenty_of_ten_thousand_images() -> None:
    made = worlds()
    assert len({world.seed for world in made}) == len(made) == 20
    assert sum(world.classes * world.images for world in made) >= 10_000
    assert {world.classes for world in made} >= {24, 200}
