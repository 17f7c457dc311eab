"""All commands have one grammar: subject, dataset, common options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.app import COMMANDS, import_command
from pipeline.cli.listings import ROWS
from pipeline.core.layers import known
from pipeline.methods.registry import METHODS
from pipeline.run import Run
from tests.helpers.runs import said

SILENT = {"bench"}
"""Commands that print no results as JSON: `bench` writes files of its own."""

STORED = {"report"}
"""Commands that read finished runs from the store, and no weights."""
NO_RUN = {"describe"}
"""Commands about a dataset without a run: the settings of `describe` are those of its recipe."""


def parameters(name: str) -> dict[str, Any]:
    return {param.name: param for param in import_command(name).params}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_the_common_options(name: str) -> None:
    found = parameters(name)
    assert found["quiet"].opts == ["--quiet", "-q"]
    assert name in SILENT or found["as_json"].opts == ["--json"]
    if "dataset" in found:
        assert found["dataset"].opts == ["--dataset", "-d"]
        assert found["overrides"].opts == ["--set", "-s"]
    if "dataset" in found and name not in NO_RUN:
        assert name in STORED or found["weights_dir"].opts == ["--weights-dir"]
        assert name == "check" or found["profile"].opts == ["--profile", "-p"]


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["status"], ["status", "-d"]),
        (["config"], ["config", "-d"]),
        (["gc"], ["gc", "-d"]),
        (["path", "crops", "raw"], ["path", "crops-raw", "-d"]),
        (["path", "embeddings"], ["path", "embeddings", "--dataset"]),
        (["why", "crops", "raw"], ["why", "crops-raw", "-d"]),
        (["crops", "raw"], ["crops-raw", "-d"]),
        (["crops-raw"], ["crops", "raw", "-d"]),
        (["run", "--to", "crops raw"], ["run", "--to", "crops-raw", "-d"]),
        (["compare", "abs", "cupl"], ["compare", "abs", "cupl", "-d"]),
        (["list", "runs"], ["list", "runs", "-d"]),
    ],
)
def test_the_last_word_is_the_dataset_as_the_option_is(
    words: list[str], same: list[str], made: Run, tiny: Path
) -> None:
    more = [] if words[0] in ("list", "gc") else ["--set", "scores.n=4"]
    one, other = said(*words, tiny, *more, "--json"), said(*same, tiny, *more, "--json")
    assert one.returncode == other.returncode == 0, one.stderr + other.stderr
    assert strip_ages(json.loads(one.stdout)) == strip_ages(json.loads(other.stdout))


@pytest.mark.parametrize(
    "words", [["path", "crops", "raw"], ["path", "crops-raw"], ["compare", "abs", "cupl"]]
)
def test_a_known_dataset_may_come_first(words: list[str], made: Run, tiny: Path) -> None:
    command, *subject = words
    more = ["--set", "scores.n=4", "--json"]
    one, other = said(command, tiny, *subject, *more), said(*words, tiny, *more)
    assert one.returncode == other.returncode == 0, one.stderr + other.stderr
    assert strip_ages(json.loads(one.stdout)) == strip_ages(json.loads(other.stdout))


def test_the_last_word_is_the_dataset_where_both_are_known_or_none_is(tiny: Path) -> None:
    assert "no run of dataset 'cub'" in said("explain", "demo", "cub").stderr
    assert "unknown dataset 'b'" in said("why", "scores", "b").stderr


def strip_ages(value: Any) -> Any:
    """Without what changes with the time."""
    if isinstance(value, list):
        return [strip_ages(each) for each in value]
    if isinstance(value, dict):
        ages = ("age", "days", "seconds")
        return {name: strip_ages(each) for name, each in value.items() if name not in ages}
    return value


@pytest.mark.parametrize("kind", [kind for kind in ROWS if kind not in ("models", "runs")])
def test_lists_name_what_commands_take(kind: str, made: Run, tiny: Path) -> None:
    rows = json.loads(said("list", kind, tiny, "--json").stdout)
    expected = {
        "datasets": set(known("datasets")),
        "profiles": set(known("profiles")),
        "experiments": set(known("experiments")),
        "methods": set(METHODS),
        "sweeps": set(),
    }
    assert {row["name"] for row in rows} == expected[kind]


def test_runs_are_listed_with_the_options_that_make_them(made: Run, tiny: Path) -> None:
    (row,) = json.loads(said("list", "runs", tiny, "--json").stdout)
    assert row["dataset"] == "tiny"
    assert row["options"].endswith("--set scores.n=4")
