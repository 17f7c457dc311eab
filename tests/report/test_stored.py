"""Which run a report is about, and that its store is only read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError, Damaged, MissingInput
from pipeline.report.stored import StoredRun, find_run
from tests.helpers.runs import Runner


def test_the_run_with_the_settings_asked_for_is_found(run: StoredRun) -> None:
    assert run.settings.scores.n == 4
    assert run.differences == {}
    assert run.others == 0


def test_the_nearest_run_is_taken_and_what_differs_is_said(finished: Path) -> None:
    run = find_run("tiny", place=finished)  # no such dataset is configured
    assert run.differences["scores.n"] == (60, 4)


def test_a_setting_that_is_named_must_be_as_asked(finished: Path) -> None:
    with pytest.raises(MissingInput, match=r"scores\.n 4 instead of 3"):
        find_run("tiny", overrides=["scores.n=3"], place=finished)
    with pytest.raises(MissingInput, match=r"temperature 0\.03 instead of 1"):
        find_run("tiny", profile="paper", place=finished)
    assert find_run("tiny", overrides=["scores.n=4"], place=finished).settings.scores.n == 4


def test_of_several_runs_the_nearest_is_taken(run_of: Runner, made: object, tmp_path: Path) -> None:
    run_of("scores.temperature=0.5").execute(run_of("scores.temperature=0.5").stages, [], True)
    store = tmp_path / "store"
    assert find_run("tiny", place=store).settings.scores.temperature == 0.03
    other = find_run("tiny", overrides=["scores.temperature=0.5"], place=store)
    assert (other.settings.scores.temperature, other.others) == (0.5, 1)


def test_an_unknown_dataset_is_named_with_the_nearest(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        find_run("tyni", place=finished)
    with pytest.raises(ConfigError, match="no run of dataset 'tiny'"):
        find_run("tiny", place=tmp_path)


def test_damage_is_said_and_left_as_it_is(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "store")
    run = find_run("tiny", place=tmp_path / "store")
    artifact = run.artifact("scores")
    chunk = next(path for path in artifact.path.glob("logits.zarr/c/*/*/*"))
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    before = sorted(artifact.ledger.units())
    with pytest.raises(Damaged, match="abs verify"):
        artifact.array("logits")[:]
    assert sorted(artifact.ledger.units()) == before


def test_stages_come_after_those_they_read(run: StoredRun) -> None:
    for place, stage in enumerate(run.stages):
        assert set(run.artifact(stage).manifest["upstream"]) <= set(run.stages[:place])
    assert set(run.stages) == set(run.record.artifacts)
