"""A key changes exactly when something changes that decides the artifact's content."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Section
from pipeline.files import Digests
from pipeline.identity import canonical, canonical_json, digest
from pipeline.run import build
from pipeline.settings import Settings, load, merge, validate
from pipeline.stage import WHOLE, Stage, Unit, Worker
from pipeline.store import Store
from tests.conftest import Runner

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(JSON, JSON)
def test_a_digest_is_of_the_value_and_of_nothing_less(a: Any, b: Any) -> None:
    assert repr(json.loads(canonical_json(a))) == repr(sort_names(a))
    if repr(sort_names(a)) != repr(sort_names(b)):
        assert digest(a) != digest(b)


def sort_names(value: Any) -> Any:
    """`value` with the names of every mapping in order."""
    if isinstance(value, dict):
        return {name: sort_names(value[name]) for name in sorted(value)}
    return [sort_names(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON, min_size=2))
def test_the_order_of_names_does_not_matter(value: dict[str, Any]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {1: 2}, {1, 2}, object(), Path("x"), b"x", print]
)
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical({"a": [value]})


@dataclass(frozen=True)
class Odd(Stage):
    """A stage with a field that identity cannot know."""

    anything: Any
    kind: ClassVar[str] = "odd"
    version: ClassVar[int] = 1

    def units(self, store: Store) -> list[Unit]:
        return [WHOLE]

    def worker(self, store: Store) -> Worker:
        raise AssertionError


@pytest.mark.parametrize("value", [Path("x"), 0.5, [1], {"a": 1}, len])
def test_a_stage_refuses_a_field_of_unknown_kind(value: Any) -> None:
    with pytest.raises(TypeError, match=r"odd.anything"):
        _ = Odd(value).key


OTHER: dict[str, Any] = {
    "crops.alpha": 0.4,
    "crops.beta": 0.8,
    "crops.k": 19,
    "crops.layer": -2,
    "crops.seed": 1,
    "crops.temperature": 0.04,
    "dataset.name": "other",
    "descriptions.clip.limit": 3,
    "descriptions.clip.template": "a drawing of a {}.",
    "descriptions.cupl.limit": 9,
    "descriptions.cupl.template": "{} alone",
    "feature.layer": 1,
    "index.max_skipped": 0.02,
    "layout.crops": 7,
    "layout.images": 7,
    "scores.feature": False,
    "scores.logit_scale": 50.0,
    "scores.methods": ["clip", "abs"],
    "scores.n": 3,
    "scores.raw": False,
    "scores.soft": False,
    "scores.temperature": 0.04,
}
"""Another value for each field that belongs to a key."""

FILE = "pipeline/demo/prompts/cupl.json"
BESIDE = {
    "descriptions.clip.limit": [f"descriptions.clip={{template: null, file: {FILE}, limit: 8}}"],
    "descriptions.cupl.limit": ["descriptions.cupl.limit=8"],
    "descriptions.cupl.template": ["descriptions.cupl={template: 'a {}', file: null, limit: null}"],
}
"""What else must be set for a field to have another value."""

RUNTIME_FIELDS = {
    "dataset.root", "clip.model", "clip.weights", "attention.model", "attention.weights",
    "descriptions.clip.file", "descriptions.cupl.file", "runtime.device", "runtime.batch_size",
    "runtime.threads", "paths.artifacts", "paths.data", "paths.weights",
}  # fmt: skip
"""Locations and speed. Files among them count by their content."""


def leaves(section: type[Section], values: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every field of the settings with its value, by dotted name."""
    found: list[tuple[str, Any]] = []
    for name, field in section.model_fields.items():
        inner, value = field.annotation, getattr(values, name)
        if isinstance(inner, type) and issubclass(inner, Section):
            found += leaves(inner, value, f"{path}{name}.")
        else:
            found.append((f"{path}{name}", value))
    return found


LEAVES = dict(leaves(Settings, load("demo")))


def test_the_runtime_fields_are_those_that_are_listed() -> None:
    def runtime(section: type[Section], path: str) -> set[str]:
        found = {f"{path}{n}" for n in section.model_fields if n not in section.hashed_fields()}
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found |= runtime(field.annotation, f"{path}{name}.")
        return found

    assert runtime(Settings, "") == RUNTIME_FIELDS


def test_no_field_of_a_key_is_left_out_below() -> None:
    assert set(OTHER) == set(LEAVES) - RUNTIME_FIELDS - {"dataset.reader"}


@pytest.mark.parametrize("name", sorted(OTHER))
def test_every_field_changes_the_key_of_the_metrics(run_of: Runner, name: str) -> None:
    base = run_of(*BESIDE.get(name, [])).settings.model_dump(mode="json")
    change = OTHER[name]
    for part in reversed(name.split(".")):
        change = {part: change}
    before, after = (build(validate(v))[-1].key for v in (base, merge(base, change)))
    assert before != after


def test_the_key_says_what_it_is_made_of(run_of: Runner) -> None:
    raw = run_of().named("embeddings-raw")[0]
    identity = raw.identity()
    assert set(identity["upstream"]) == {"index", "crops"}
    assert set(identity["outside"]) == {"clip"}
    assert len(identity["outside"]["clip"]["weights"]) == 64
    assert "count" not in identity["config"]


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    memory, file = tmp_path / "memory.json", tmp_path / "file"
    file.write_bytes(b"one")
    first = Digests(memory).sha256(file)
    memory.write_text(memory.read_text().replace(first, "remembered"))
    assert Digests(memory).sha256(file) == "remembered"
    file.write_bytes(b"two!")
    assert Digests(memory).sha256(file) not in (first, "remembered")
    memory.write_text("{ damaged")
    assert len(Digests(memory).sha256(file)) == 64
