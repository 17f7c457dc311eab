"""The demo world: scenes repeat, masks fit, and training never meets the test's birds or names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.demo.attributes import ATTRIBUTES, PARTS, differences, random_bird
from pipeline.demo.species import DISTANCE, reserved_names, species, training_bird
from pipeline.demo.training_data import (
    SIZES,
    TRAINING,
    attribute_texts,
    caption,
    centre_box,
    random_box,
    render_view,
    stream,
)
from pipeline.demo.world import OBJECT_SIDE, draw_scene
from pipeline.demo.worlds import World


@pytest.mark.parametrize("size", SIZES)
def test_a_scene_is_a_function_of_its_seed(size: tuple[int, int]) -> None:
    bird = random_bird(np.random.default_rng(0))
    one, same, other = (draw_scene(np.random.default_rng(seed), bird, size) for seed in (1, 1, 2))
    assert one.image.size == size
    assert one.image.tobytes() == same.image.tobytes() != other.image.tobytes()
    assert np.array_equal(one.parts, same.parts)


def test_the_bird_is_whole_and_of_the_promised_size() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, random_bird(rng), SIZES[seed % 3])
        rows, columns = np.nonzero(scene.mask)
        extent = max(np.ptp(rows), np.ptp(columns)) / min(scene.image.size)
        assert OBJECT_SIDE[0] - 0.03 <= extent <= OBJECT_SIDE[1] + 0.03


def test_every_part_is_drawn_unless_the_bird_lacks_it() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bird = random_bird(rng)
        drawn = set(np.unique(draw_scene(rng, bird, (160, 160)).parts).tolist()) - {0}
        lacking = {1 + PARTS.index("crest")} if bird["crest"] == "no" else set()
        assert drawn == set(range(1, len(PARTS) + 1)) - lacking


def test_species_are_distinct_and_true_to_their_names() -> None:
    assert len(species()) == 24 == len(reserved_names())
    for one in species():
        assert all(one.bird[attribute] == value for attribute, value in one.name.statements)
        assert all(
            differences(one.bird, other.bird) > DISTANCE for other in species() if other is not one
        )


def test_training_birds_keep_their_distance_from_the_test() -> None:
    rng = stream(TRAINING, 0)
    for _ in range(500):
        bird = training_bird(rng)
        assert all(differences(bird, one.bird) > DISTANCE for one in species())


def test_no_training_text_bears_a_test_name() -> None:
    everything = frozenset(ATTRIBUTES)
    for index in range(60):
        rng = stream(TRAINING, index)
        texts = attribute_texts(rng) + [
            caption(rng, training_bird(rng), everything)[0] for _ in range(20)
        ]
        assert not [text for text in texts if any(name in text for name in reserved_names())]


def test_captions_tell_only_what_is_in_sight_and_true() -> None:
    for index in range(30):
        rng = stream(TRAINING, index)
        bird = training_bird(rng)
        scene = draw_scene(rng, bird, SIZES[index % 3])
        for box in (centre_box(scene.image), random_box(rng, scene.image)):
            view = render_view(scene, bird, box)
            if view.visible:
                statements = caption(rng, bird, view.visible)[1]
                assert statements
                assert all(
                    name in view.visible and bird[name] == value for name, value in statements
                )


def test_a_view_of_bare_ground_shows_nothing() -> None:
    bird = random_bird(np.random.default_rng(0))
    scene = draw_scene(np.random.default_rng(0), bird, (208, 144))
    columns = np.nonzero(scene.mask.any(0))[0]
    left, right = (0, columns[0]) if columns[0] > 208 - columns[-1] else (columns[-1] + 1, 208)
    view = render_view(scene, bird, (left, 0, right, right - left))
    assert not view.visible
    assert not view.patch_parts.any()
    assert view.pixels.shape == (80, 80, 3)


def test_a_new_world_has_species_and_pictures_of_its_own(tmp_path: Path) -> None:
    world = World(seed=3, classes=9, images=1, redrawn=4, wrong=0.25)
    names = [one.name.text for one in world.species]
    assert len(set(names)) == 9
    assert not set(names) <= reserved_names()
    config = yaml.safe_load(world.write(tmp_path).read_text())
    assert set(json.loads((tmp_path / "cupl.json").read_text())) == set(names)
    assert len(list(Path(config["dataset"]["root"]).glob("*/*.png"))) == 9
