"""Compare index, attention and crops with the reference, for every profile and single rules.

The reference computes crops from the stored attention; in the last test, from the image files.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from pipeline.run import Run
from tests.reference.case import (
    BOX,
    PROFILES,
    WINDOW,
    Case,
    N,
    array,
    boxes,
    crops_table,
    table,
)
from tests.reference.crops import Crop, Profile, all_windows, file_uniforms, squares_of
from tests.reference.formulas import patch_probabilities

pytestmark = pytest.mark.slow

OFFICIAL = PROFILES["official"]


def stored_attention(run: Run, layer: int = -1) -> list[list[float]]:
    """Return one layer of the stored attention, by image and patch."""
    maps = array(run, "attention", "attention").astype(np.float64)[:, layer]
    found: list[list[float]] = maps.reshape(len(maps), -1).tolist()
    return found


def test_index_lists_every_file(case: Case) -> None:
    rows = table(case.run, "index", "images")
    assert list(rows["path"]) == [f"{file.parent.name}/{file.name}" for file in case.files]
    assert list(rows["label"]) == case.labels
    assert list(zip(rows["width"], rows["height"], strict=True)) == [i.size for i in case.images]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in case.files]
    assert list(rows["sha256"]) == digests
    assert len({image.size for image in case.images}) >= 4


def test_attention_of_every_layer(case: Case) -> None:
    stored = array(case.run, "attention", "attention")
    images, layers, rows, columns = stored.shape
    assert (images, layers, rows * columns) == np.shape(case.maps)
    assert rows == columns
    assert np.abs(stored.reshape(images, layers, -1) - case.maps).max() <= 1e-5


# --- Crops of the stored attention ------------------------------------------------------------

PAPER, ALIGNED = PROFILES["paper"], PROFILES["aligned"]
RULES: dict[str, tuple[str, Profile]] = {
    "crops.seed=7": ("official", replace(OFFICIAL, seed=7)),
    "crops.k=3": ("official", replace(OFFICIAL, k=3)),
    "crops.k=3 windows.k=null": ("official", replace(OFFICIAL, k=3, window_k=None)),
    "windows.k=4": ("official", replace(OFFICIAL, window_k=4)),
    "crops.temperature=0.002": ("official", replace(OFFICIAL, tau=0.002)),
    "crops.alpha=0.3 crops.beta=0.7": ("official", replace(OFFICIAL, alpha=0.3, beta=0.7)),
    "crops.beta=0.5": ("official", replace(OFFICIAL, beta=0.5)),
    "crops.sizes=ratio": ("official", replace(OFFICIAL, sizes="ratio")),
    "windows.draws=joint": ("official", replace(OFFICIAL, draws="joint")),
    "windows.draws=joint crops.k=3": ("official", replace(OFFICIAL, draws="joint", k=3)),
    "windows.index=nearest": ("official", replace(OFFICIAL, index="nearest")),
    "windows.index=exact": ("official", replace(OFFICIAL, index="exact")),
    "windows.view=clip": ("official", replace(OFFICIAL, view="clip")),
    "windows.shape=ratio windows.index=exact": (
        "official",
        replace(OFFICIAL, shape="ratio", index="exact"),
    ),
    "windows.shape=box": ("official", replace(OFFICIAL, shape="box")),
    "windows.view=clip windows.index=nearest": (
        "official",
        replace(OFFICIAL, view="clip", index="nearest"),
    ),
    "crops.k=5": ("paper", replace(PAPER, k=5)),
    "windows.draws=independent": ("paper", replace(PAPER, draws="independent")),
    "windows.index=corner": ("paper", replace(PAPER, index="corner")),
    "crops.sizes=integer": ("paper", replace(PAPER, sizes="integer")),
    "windows.view=clip crops.seed=1": ("paper", replace(PAPER, view="clip", seed=1)),
    "windows.shape=ratio": ("aligned", replace(ALIGNED, shape="ratio")),
    "windows.shape=square": ("aligned", replace(ALIGNED, shape="square")),
    "windows.view=whole": ("aligned", replace(ALIGNED, view="whole")),
    "windows.draws=independent crops.sizes=ratio": (
        "aligned",
        replace(ALIGNED, draws="independent", sizes="ratio"),
    ),
}
"""Overrides of a profile, with the reference's profile that corresponds to them."""


def assert_crops(case: Case, run: Run, profile: Profile, layer: int = -1) -> None:
    """Check that stored crops equal the reference's in every column, for the stored attention."""
    maps = stored_attention(run, layer)
    expected = [case.crops(i, profile, attention) for i, attention in enumerate(maps)]
    raw, feature = crops_table(run, "raw"), crops_table(run, "feature")
    for rows in (raw, feature):
        assert rows["image"].tolist() == [i for i in range(len(case.files)) for _ in range(N)]
        assert rows["crop"].tolist() == [*range(N)] * len(case.files)
    flat = [crop for of_image in expected for crop in of_image]
    assert raw["patch"].tolist() == [crop.patch for crop in flat]
    assert boxes(raw, BOX) == [[crop.box for crop in of_image] for of_image in expected]
    assert feature["patch"].tolist() == [crop.source for crop in flat]
    assert feature["token"].tolist() == [crop.token for crop in flat]
    assert boxes(feature, WINDOW) == [[crop.window for crop in each] for each in expected]
    assert feature["outcome"].tolist() == [crop.outcome for crop in flat]


@pytest.mark.parametrize("name", PROFILES)
def test_crops_of_a_profile(case: Case, name: str) -> None:
    assert_crops(case, case.made("crops", profile=name), PROFILES[name])


@pytest.mark.parametrize("changes", RULES)
def test_crops_under_a_single_rule(case: Case, changes: str) -> None:
    name, profile = RULES[changes]
    assert_crops(case, case.made("crops", *changes.split(), profile=name), profile)


@pytest.mark.parametrize("name", PROFILES)
def test_crops_of_another_layer(case: Case, name: str) -> None:
    run = case.made("crops", "crops.layer=0", profile=name)
    assert_crops(case, run, PROFILES[name], layer=0)


def test_the_rules_differ_on_these_pictures(case: Case) -> None:
    """Check that every rule changes the crops; otherwise these tests could not tell rules apart.

    Index rules give equal crops if a side has as many tokens as patches, or half as many.
    """
    maps = [layers[-1] for layers in case.maps]

    def found(profile: Profile) -> list[list[Crop]]:
        return [case.crops(i, profile, attention) for i, attention in enumerate(maps)]

    finer = case.clip.grid**2 > len(maps[0])
    for changes, (name, profile) in RULES.items():
        if finer or not changes.startswith("windows.index="):
            assert found(profile) != found(PROFILES[name]), changes


# --- Probabilities and windows ----------------------------------------------------------------


def test_patch_probabilities_are_those_of_the_top_patches(case: Case) -> None:
    run = case.made("crops-feature", "windows.k=7", "crops.temperature=0.01")
    rows = table(run, "crops-feature", "patch_probs").sort_values(["image", "rank"])
    for i, attention in enumerate(stored_attention(run)):
        expected = patch_probabilities(attention, 7, 0.01)
        found = rows[rows["image"] == i]
        assert found["rank"].tolist() == [*range(7)]
        assert found["patch"].tolist() == [*expected]
        assert found["probability"].tolist() == pytest.approx([*expected.values()], rel=1e-12)


SPACES = {
    "": OFFICIAL,
    "windows.view=clip windows.index=nearest": replace(OFFICIAL, view="clip", index="nearest"),
    "windows.index=exact windows.k=5": replace(OFFICIAL, index="exact", window_k=5),
    "windows.draws=joint crops.k=6": replace(OFFICIAL, draws="joint", k=6),
    "crops.alpha=0.2 crops.temperature=1": replace(OFFICIAL, alpha=0.2),
}


@pytest.mark.parametrize("changes", SPACES)
def test_all_windows_that_can_be_drawn(case: Case, changes: str) -> None:
    """Compare all windows, in the order in which outcomes number them."""
    run, profile = case.made("crops", *changes.split()), SPACES[changes]
    rows = table(run, "crops-windows", "crops").sort_values(["image", "crop"])
    for i, attention in enumerate(stored_attention(run)):
        found = rows[rows["image"] == i]
        expected = all_windows(attention, case.picture(i, profile))
        values = found[["patch", "token", *WINDOW]].to_numpy().tolist()
        assert values == [[patch, token, *window] for patch, token, window in expected]
        assert found["crop"].tolist() == [*range(len(expected))]


def test_squares_are_anywhere(case: Case) -> None:
    run = case.made("crops-squares", "squares.alpha=0.4", "squares.seed=3")
    stored = boxes(crops_table(run, "squares", 8), BOX)
    for i, file in enumerate(case.files):
        u = file_uniforms(file, 3, 8, stream="squares")
        assert stored[i] == squares_of(u, case.images[i].size, alpha=0.4)
    sides = {right - left for left, _, right, _ in stored[0]}
    assert len(sides) > 1


# --- From the files alone ---------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_crops_from_the_files_alone(case: Case, name: str) -> None:
    profile, run = PROFILES[name], case.made("crops", profile=name)
    raw, feature = boxes(crops_table(run, "raw"), BOX), boxes(crops_table(run, "feature"), WINDOW)
    chosen = case.decided(profile)
    assert len(chosen) >= 3
    for i in chosen:
        crops = case.crops(i, profile, case.maps[i][-1])
        assert raw[i] == [crop.box for crop in crops]
        assert feature[i] == [crop.window for crop in crops]
