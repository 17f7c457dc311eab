"""The program that tests the promise: its replay is that of the reference, its worlds are many."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.demo.settling import PART, Draws, ordered, parts, replay, worlds
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
    images = zip(*(part.numpy() for part in draws), strict=True)
    stops = [settling.stop(*image, 0.05) for image in images]
    np.testing.assert_array_equal(found.used, [used for used, _, _ in stops])
    np.testing.assert_array_equal(found.decided, [front for _, _, front in stops])
    final = (draws.others + draws.scores.sum(dim=1)).argmax(dim=1).tolist()
    assert found.wrong == sum(front != end for (*_, front), end in zip(stops, final, strict=True))
    assert 8 == found.used.min() < found.used.max() == 20


def rows_of(draws: Draws, image: int) -> list[tuple[float, ...]]:
    """Scores and place of each draw of an image."""
    joined = torch.cat([draws.scores[image], draws.places[image]], dim=1)
    return [tuple(row) for row in joined.tolist()]


def test_draws_are_ordered_as_the_reference_does() -> None:
    draws = some_draws(2, 12, 2)
    found = ordered(draws, 0.01)
    for image in range(2):
        rows = rows_of(draws, image)
        expected = [rows[i] for i in settling.order(draws.places[image].numpy(), 0.01)]
        assert rows_of(found, image) == expected


def test_parts_are_different_choices_of_the_same_draws() -> None:
    draws = some_draws(3, 60, 2)
    one, other = parts(draws, 2)
    assert one.scores.shape == (3, PART, 2)
    assert not (one.scores == other.scores).all()
    for image in range(3):
        assert len(set(rows_of(one, image))) == PART
        assert set(rows_of(one, image)) < set(rows_of(draws, image))
    torch.testing.assert_close(one.others, draws.others * PART / 60)


def test_worlds_are_twenty_of_a_hundred_images_and_more() -> None:
    made = worlds()
    assert len({world.seed for world in made}) == len(made) == 20
    assert all(world.classes * world.images >= 96 for world in made)
    assert {world.classes for world in made} >= {24, 200}
