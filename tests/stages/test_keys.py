"""A key changes exactly when something changes that decides the artifact's content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.core.layers import merge
from pipeline.core.section import Section
from pipeline.methods.registry import METHODS
from pipeline.plan import build
from pipeline.settings import load, validate
from pipeline.stage import Stage, Worker
from pipeline.store.store import Store
from pipeline.store.units import WHOLE, Units
from pipeline.texts.sets import RULES
from tests.helpers.runs import DEMO, Runner


@dataclass(frozen=True)
class Odd(Stage):
    """A stage with a field that identity cannot know."""

    anything: Any
    kind: ClassVar[str] = "odd"
    version: ClassVar[int] = 1

    def units(self, store: Store) -> Units:
        return WHOLE

    def worker(self, store: Store) -> Worker:
        raise AssertionError


@pytest.mark.parametrize("value", [Path("x"), 0.5, [1], {"a": 1}, len])
def test_a_stage_refuses_a_field_of_unknown_kind(value: Any) -> None:
    with pytest.raises(TypeError, match=r"odd.anything"):
        _ = Odd(value).key


OTHER: dict[str, Any] = {
    "augmented.seed": 1,
    "crops.alpha": 0.4,
    "crops.beta": 0.8,
    "crops.k": 19,
    "crops.layer": -2,
    "crops.seed": 1,
    "crops.sizes": "ratio",
    "crops.temperature": 0.04,
    "dataset.name": "other",
    "descriptions.awt.template": "a drawing of a {}",
    "descriptions.clip-e.templates": ["a drawing of a {}."],
    "descriptions.clip.templates": ["a drawing of a {}."],
    "descriptions.tda.templates": ["a drawing of a {}."],
    "descriptions.waffle.pairs": 3,
    "descriptions.waffle.seed": 1,
    "feature.gain": 3.0,
    "feature.layer": 1,
    "feature.prompt": "mask",
    "index.max_skipped": 0.02,
    "layout.crops": 7,
    "layout.images": 7,
    "methods.awt-crops.eps": 0.2,
    "methods.awt-crops.steps": 5,
    "methods.awt-crops.temperature": 0.4,
    "methods.awt.eps": 0.2,
    "methods.awt.n": 5,
    "methods.awt.steps": 5,
    "methods.awt.temperature": 0.4,
    "methods.bifta-views.image_scale": 3.0,
    "methods.bifta-views.most": 2,
    "methods.bifta-views.n": 2,
    "methods.bifta-views.overlap": 0.8,
    "methods.bifta-views.pool": 5,
    "methods.bifta-views.seed": 1,
    "methods.bifta-views.text_scale": 3.0,
    "methods.boost-adapter.alpha": 1.0,
    "methods.boost-adapter.beta": 4.0,
    "methods.boost-adapter.delta": 1,
    "methods.boost-adapter.n": 5,
    "methods.boost-adapter.order": "index",
    "methods.boost-adapter.seed": 1,
    "methods.dmn-zs.beta": 5.0,
    "methods.dmn-zs.order": "index",
    "methods.dmn-zs.room": 5,
    "methods.dmn-zs.seed": 1,
    "methods.gda.alpha": 1.0,
    "methods.gda.support.passes": 1,
    "methods.gda.support.seed": 1,
    "methods.gda.support.shots": 3,
    "methods.lazsl-crops.eps": 0.2,
    "methods.lazsl-crops.steps": 5,
    "methods.lazsl-crops.theta": 0.7,
    "methods.lazsl.eps": 0.2,
    "methods.lazsl.steps": 5,
    "methods.lazsl.theta": 0.7,
    "methods.mta-crops.lambda_q": 3.0,
    "methods.mta-crops.lambda_y": 0.3,
    "methods.mta-crops.share": 0.2,
    "methods.mta.lambda_q": 3.0,
    "methods.mta.lambda_y": 0.3,
    "methods.mta.n": 5,
    "methods.mta.share": 0.2,
    "methods.tda.alpha": 1.0,
    "methods.tda.beta": 4.0,
    "methods.tda.order": "index",
    "methods.tda.seed": 1,
    "methods.tpt.n": 5,
    "methods.tpt.rate": 0.1,
    "methods.tpt.share": 0.2,
    "methods.wca.image_scale": 3.0,
    "methods.wca.n": 2,
    "methods.wca.pool": 5,
    "methods.wca.seed": 1,
    "methods.wca.text_scale": 3.0,
    "methods.zero-crops.eps": 0.001,
    "methods.zero-crops.share": 0.2,
    "methods.zero.eps": 0.001,
    "methods.zero.n": 5,
    "methods.zero.share": 0.2,
    "raw.brightness": 1.4,
    "raw.prompt": "highlight",
    "raw.thickness": 0.03,
    "scores.classes": "present",
    "scores.expectation": True,
    "scores.feature": False,
    "scores.logit_scale": 50.0,
    "scores.m": 9,
    "scores.methods": ["clip", "abs"],
    "scores.n": 3,
    "scores.raw": False,
    "scores.soft": False,
    "scores.temperature": 0.04,
    "squares.alpha": 0.4,
    "squares.beta": 0.8,
    "squares.seed": 1,
    "windows.draws": "joint",
    "windows.index": "nearest",
    "windows.k": 19,
    "windows.shape": "ratio",
    "windows.view": "clip",
}
"""Another value for each field that belongs to a key."""

BESIDE = {
    "descriptions.tda.templates": "scores.methods=[tda]",
    "augmented.seed": "scores.methods=[zero]",
    "descriptions.awt.template": "scores.methods=[awt]",
    "descriptions.clip-e.templates": "descriptions.clip-e={file: null, templates: ['a {}']}",
}
"""What else must be set for a field to have another value."""


def beside(name: str) -> list[str]:
    """List what must be set for a field to count: its method is scored, on the views it is for."""
    if name in BESIDE:
        return [BESIDE[name]]
    section, _, rest = name.partition(".")
    if section != "methods":
        return []
    method = rest.partition(".")[0]
    views = [f"{setting}={value}" for setting, value in METHODS[method].published.items()]
    support = ["methods.gda.support.dataset=demo"] if method == "gda" else []
    return [f"scores.methods=[{method}]", *views, *support]


RUNTIME_FIELDS = {
    "dataset.root", "dataset.split", "dataset.image", "dataset.label", "dataset.single_class",
    "dataset.folders_are_classes",
    "dataset.names", "dataset.vocabulary", "dataset.duplicates",
    "dataset.published.images", "dataset.published.classes", "clip.model",
    "clip.weights", "clip.precision", "clip.queries", "attention.model", "attention.weights",
    "attention.precision", "descriptions.clip.file",
    "descriptions.clip-e.file", "descriptions.clip-d.file", "descriptions.waffle.file",
    "descriptions.awt.file", "descriptions.tda.file", "methods.gda.support.dataset",
    "descriptions.waffle.words", "descriptions.cupl.file", "windows.encode", "scores.settle",
    "scores.settle_at", "crops.share", "runtime.device",
    "runtime.batch_size", "runtime.threads", "runtime.method_seconds",
    "paths.artifacts", "paths.data", "paths.weights",
}  # fmt: skip
"""Locations and speed, and what other stages take up. Files among them count by their content."""

TEXT_SETS = ("clip", "clip-e", "clip-d", "waffle", "cupl", "awt", "tda")
APART = {f"descriptions.{name}.rule" for name in TEXT_SETS}
APART |= {f"descriptions.{name}.library" for name in ("clip", "clip-e", "tda")}
APART |= {"dataset.reader"}
"""Rules, which bring fields of their own, and libraries have tests of their own. Of a reader counts
what it finds."""


def leaves(section: Section, path: str = "") -> Iterator[tuple[str, bool]]:
    """Every field by dotted name, and whether it belongs to a key."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, f"{path}{name}.")
        elif isinstance(value, dict):
            for inner, one in value.items():
                yield from leaves(one, f"{path}{name}.{inner}.")
        else:
            yield f"{path}{name}", name in section.hashed_fields()


LEAVES = dict(leaves(load("demo")))


def test_the_runtime_fields_are_those_that_are_listed() -> None:
    assert {name for name, hashed in LEAVES.items() if not hashed} == RUNTIME_FIELDS


def test_no_field_of_a_key_is_left_out_below() -> None:
    assert set(OTHER) == {name for name, hashed in LEAVES.items() if hashed} - APART


def test_the_demo_has_every_kind_of_section() -> None:
    """Open ones are looked at through what the demo holds: all rules, all methods with settings."""
    demo = load("demo")
    assert {texts.rule for texts in demo.descriptions.values()} == {*RULES} - {"distinct", "same"}
    assert set(demo.methods) == {name for name, method in METHODS.items() if method.model_fields}


ALL = "scores.methods=null"


@pytest.mark.parametrize("name", sorted(OTHER))
def test_every_field_changes_the_key_of_the_metrics(run_of: Runner, name: str) -> None:
    base = run_of(ALL, *beside(name)).settings.model_dump(mode="json")
    change = OTHER[name]
    for part in reversed(name.split(".")):
        change = {part: change}
    before, after = (build(validate(v))[-1].key for v in (base, merge(base, change)))
    assert before != after


@pytest.mark.parametrize("name", ["clip", "clip-e", "clip-d", "waffle", "cupl"])
def test_every_rule_is_another_text_set(run_of: Runner, name: str) -> None:
    base = run_of(ALL).settings.model_dump(mode="json")
    file, words = (str(DEMO / "prompts" / name) for name in ("cupl.json", "words.txt"))
    found = []
    for rule in {*RULES} - {"same"}:
        extra = {"words": words} if rule == "waffle" else {}
        base["descriptions"][name] = {"rule": rule, "file": file, **extra}
        stages = {stage.name: stage.key for stage in build(validate(base))}
        found.append((stages[f"descriptions-{name}"], stages["metrics"]))
    assert [len(set(keys)) for keys in zip(*found, strict=True)] == [len(RULES) - 1] * 2


def test_a_librarys_templates_count_by_their_content(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(*templates: str) -> str:
        monkeypatch.setattr("pipeline.texts.class_texts.openai_templates", lambda: list(templates))
        change = "descriptions.clip={templates: [], library: openai-imagenet}"
        return run_of("scores.methods=[clip]", change).named("descriptions-clip")[0].key

    assert key("a {}.", "the {}.") == key("a {}.", "the {}.") != key("a {}.")


# --- What a key is made of --------------------------------------------------------------------


def test_the_key_says_what_it_is_made_of(run_of: Runner) -> None:
    raw = run_of().named("embeddings-raw")[0]
    identity = raw.identity()
    assert set(identity["upstream"]) == {"index", "views"}
    assert set(identity["outside"]) == {"clip"}
    assert len(identity["outside"]["clip"]["weights"]) == 64
    assert "count" not in identity["config"]
