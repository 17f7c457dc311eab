"""The program that tests the promise: its replay is that of the reference, its worlds are many."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.demo.settling import Draws, orders, replay, worlds
from tests.reference import settling


def some_draws(images: int, count: int, classes: int) -> Draws:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(images, count, classes)) + rng.normal(size=(images, 1, classes))
    corners = np.sort(rng.random((images, count, 2, 2)), axis=2)
    others, places = rng.normal(size=(images, classes)), corners.reshape(images, count, 4)
    return Draws(*(torch.tensor(part) for part in (scores, others, places)))


def test_replay_stops_each_image_as_the_reference_does() -> None:
    draws = some_draws(40, 20, 3)
    found = replay(draws, 0.05)
    parts = zip(*(part.numpy() for part in draws), strict=True)
    stops = [settling.stop(*image, 0.05) for image in parts]
    np.testing.assert_array_equal(found.used, [used for used, _, _ in stops])
    np.testing.assert_array_equal(found.decided, [front for _, _, front in stops])
    final = (draws.others + draws.scores.sum(dim=1)).argmax(dim=1).tolist()
    assert found.wrong == sum(front != end for (*_, front), end in zip(stops, final, strict=True))
    assert 8 == found.used.min() < found.used.max() == 20


def test_orders_hold_the_same_draws() -> None:
    draws = some_draws(3, 7, 2)
    first, *more = orders(draws, 3)
    assert first is draws
    for order in more:
        assert not (order.scores == draws.scores).all()
        for image in range(3):
            joined = [torch.cat([d.scores[image], d.places[image]], 1) for d in (order, draws)]
            rows = [sorted(map(tuple, each.tolist())) for each in joined]
            assert rows[0] == rows[1]


def test_worlds_are_twenty_of_a_hundred_images_and_more() -> None:
    made = worlds()
    assert len({world.seed for world in made}) == len(made) == 20
    assert all(world.classes * world.images >= 96 for world in made)
    assert {world.classes for world in made} >= {24, 200}
