"""The profiles state the same fields, all that a method depends on, and go together with others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipeline.core.errors import ConfigError
from pipeline.core.layers import CFGS, known
from pipeline.run import Run
from pipeline.settings import Settings, load

PROFILES = ["aligned", "official", "paper"]
WHOLE = ("crops", "raw", "windows", "feature", "scores")
"""Sections that a profile decides."""
ELSEWHERE = {"crops.seed", "crops.share", "scores.methods", "scores.n", "scores.logit_scale"}
"""But for these."""


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Digests of files are remembered here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(tmp_path_factory.mktemp("store")))
        yield


def stated(name: str) -> dict[str, Any]:
    """Fields of a profile's file by dotted name."""
    content = yaml.safe_load((CFGS / "profiles" / f"{name}.yaml").read_text())
    return {f"{part}.{name}": value for part, of in content.items() for name, value in of.items()}


def test_profiles_state_the_same_fields() -> None:
    assert known("profiles") == PROFILES
    assert list(stated("official")) == list(stated("paper")) == list(stated("aligned"))


def test_a_profile_states_all_that_a_method_depends_on() -> None:
    fields = {
        f"{section}.{field}"
        for section in WHOLE
        for field in type(getattr(load("demo"), section)).model_fields
    }
    assert set(stated("official")) == fields - ELSEWHERE | {"dataset.duplicates"}


def test_profiles_differ_as_the_table_says() -> None:
    """`official` against the two others; what is not listed is alike."""
    official = stated("official")
    found = {
        name: {field: value for field, value in stated(name).items() if value != official[field]}
        for name in ("paper", "aligned")
    }
    joint = {"windows.draws": "joint", "windows.k": None}
    assert found == {
        "paper": {
            "crops.temperature": 1.0,
            "scores.temperature": 1.0,
            "crops.sizes": "ratio",
            "windows.shape": "ratio",
            "windows.index": "nearest",
            **joint,
        },
        "aligned": {
            "windows.shape": "box",
            "windows.index": "exact",
            "windows.view": "clip",
            "dataset.duplicates": "unique",
            "scores.classes": "present",
            **joint,
        },
    }
    values = [official[f"crops.{name}"] for name in ("temperature", "k", "alpha", "beta")]
    assert values == [0.03, 20, 0.5, 0.9]
    assert (official["scores.temperature"], official["scores.m"]) == (0.03, 50)
    assert load(None).scores.n == 60


OTHERS: dict[str, list[Any]] = {
    "dataset.duplicates": ["kept", "unique"],
    "crops.layer": [0, -2],
    "crops.k": [1, 100],
    "crops.temperature": [0.001, 1.0],
    "crops.alpha": [0.1, 0.9],
    "crops.beta": [0.5, 1.0],
    "crops.sizes": ["integer", "ratio"],
    "raw.prompt": ["crop", "mask", "highlight", "redcircle"],
    "raw.brightness": [2.0],
    "raw.thickness": [0.1],
    "windows.draws": ["independent", "joint"],
    "windows.shape": ["square", "ratio", "box"],
    "windows.index": ["corner", "nearest", "exact"],
    "windows.view": ["whole", "clip"],
    "windows.k": ["null", 1, 100],
    "windows.encode": ["all", "drawn"],
    "feature.layer": [0, -2],
    "feature.prompt": ["crop", "mask", "highlight-fea", "highlight-attn"],
    "feature.gain": [3.0],
    "scores.m": ["null", 1],
    "scores.temperature": [0.001, 1.0],
    "scores.classes": ["all", "present"],
    "scores.raw": ["false"],
    "scores.feature": ["false"],
    "scores.soft": ["false"],
    "scores.expectation": ["true"],
    "scores.settle": [0.001],
    "scores.settle_at": ["expectation"],
}
"""What each field may be instead."""

REFUSED = {("paper", "scores.expectation=true"), ("aligned", "scores.expectation=true")}
"""There are too many windows to embed them all."""


def switches() -> Iterator[tuple[str, str]]:
    for name in PROFILES:
        for field, values in OTHERS.items():
            yield from ((name, f"{field}={value}") for value in values)


def test_every_field_is_switched() -> None:
    assert set(OTHERS) == set(stated("official"))


@pytest.mark.parametrize(("name", "change"), list(switches()))
def test_a_profile_with_one_field_changed_is_a_plan_or_one_clear_line(
    name: str, change: str
) -> None:
    if (name, change) in REFUSED:
        with pytest.raises(ConfigError, match=r"^scores.expectation: .*; set windows.shape=square"):
            checked(name, change)
    else:
        assert checked(name, change).stages[-1].name == "metrics"


def checked(name: str, *changes: str) -> Run:
    """The plan, checked as a run checks it."""
    run = Run.of("demo", name, changes)
    for stage in run.stages:
        assert len(stage.key) == 16
        stage.check()
    return run


@pytest.mark.parametrize("change", ["scores.feature=false", "scores.methods=[clip]"])
def test_an_expectation_is_refused_only_where_there_are_feature_crops(change: str) -> None:
    expected = "scores.expectation=true"
    assert "crops-feature" not in {
        stage.name for stage in checked("paper", expected, change).stages
    }
    with pytest.raises(ConfigError, match=r"^scores\.expectation"):
        checked("paper", expected, change.replace("false", "true").replace("clip", "clip, abs"))


def test_profiles_share_what_they_agree_on() -> None:
    def key(name: str, stage: str) -> str:
        return Run.of("demo", name, []).named(stage)[0].key

    for stage in ("index", "attention", "embeddings-image", "embeddings-squares"):
        assert key("official", stage) == key("paper", stage) == key("aligned", stage)
    assert key("official", "embeddings-raw") == key("aligned", "embeddings-raw")
    assert key("official", "embeddings-raw") != key("paper", "embeddings-raw")
    keys = {key(name, "embeddings-feature") for name in PROFILES}
    assert len(keys) == 3


def test_a_profile_is_settings_again() -> None:
    for name in PROFILES:
        loaded = load("demo", name)
        assert Settings.model_validate(loaded.model_dump(mode="json")) == loaded
