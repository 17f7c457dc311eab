"""The reasons that a stage has to be computed are the settings that were changed, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.inspect.why import why
from pipeline.run import Run
from stages.crops import RawCrops
from tests.helpers.runs import ROOT, Runner, said


def reasons(run: Run, stage: str) -> list[tuple[str, str, Any, Any]]:
    """Where, what, before, now."""
    found = why(run.store, run.named(stage)[0])["reasons"]
    return [(each["stage"], each["name"], each["was"], each["now"]) for each in found]


def test_a_change_is_named_with_the_stage_it_concerns(run_of: Runner, made: Run) -> None:
    assert reasons(run_of("crops.seed=1"), "crops-raw") == [("crops-raw", "seed", 0, 1)]
    assert reasons(run_of("crops.seed=1"), "embeddings-raw") == [("crops-raw", "seed", 0, 1)]
    changed = run_of("crops.k=19", "scores.temperature=0.5")
    assert set(reasons(changed, "metrics")) == {
        ("crops-raw", "k", 20, 19),
        ("crops-feature", "k", 20, 19),
        ("scores", "temperature", made.settings.scores.temperature, 0.5),
    }
    assert not reasons(changed, "embeddings-feature")


def test_files_from_outside_and_versions_of_the_code_are_reasons_too(
    run_of: Runner, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(made.settings.descriptions["cupl"].model_dump()["file"])
    copy = tmp_path / "cupl.json"
    copy.write_text((ROOT / file).read_text() + " ")
    ((stage, name, _, _),) = reasons(run_of(f"descriptions.cupl.file={copy}"), "descriptions-cupl")
    assert (stage, name.split(".")[-1]) == ("descriptions-cupl", "file_sha256")
    monkeypatch.setattr(RawCrops, "version", 99)
    found = why(made.store, run_of().named("embeddings-raw")[0])["reasons"]
    assert [(each["kind"], each["stage"], each["now"]) for each in found] == [
        ("version", "crops-raw", 99)
    ]


def test_the_nearest_of_several_is_the_one_compared_with(run_of: Runner, made: Run) -> None:
    other = run_of("crops.k=7", "crops.seed=5", "crops.alpha=0.4")
    other.execute(other.named("crops-raw"), [], quiet=True)
    assert reasons(run_of("crops.k=8"), "crops-raw") == [("crops-raw", "k", 20, 8)]
    near = run_of("crops.k=7", "crops.seed=5", "crops.alpha=0.3")
    assert reasons(near, "crops-raw") == [("crops-raw", "alpha", 0.4, 0.3)]


def test_what_is_finished_partial_or_new_needs_no_reason(
    run_of: Runner, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = made.named("embeddings-raw")[0]
    assert why(made.store, stage)["state"] == "done"
    larger = run_of("scores.n=7").named("crops-raw")[0]
    assert why(made.store, larger)["state"] == "partial (6 of 12 units)"
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "new"))
    fresh = run_of()
    answer = why(fresh.store, fresh.named("embeddings-raw")[0])
    assert answer["state"].startswith("missing; first ")
    assert (answer["nearest"], answer["reasons"]) == (None, [])


def test_a_damaged_identity_is_compared_with_by_nobody(run_of: Runner, made: Run) -> None:
    artifact = made.store.artifact(made.named("crops-raw")[0])
    for content in ("", "[]", '{"schema": 1}'):
        (artifact.path / "identity.json").write_text(content)
        answer = why(made.store, run_of("crops.k=7").named("crops-raw")[0])
        assert answer["nearest"] is None


def test_the_command_answers_for_every_stage_of_a_name(made: Run, tiny: Path) -> None:
    words = ["--dataset", tiny, "--set", "scores.n=4 crops.k=7"]
    answer = said("why", "crops", *words)
    assert answer.returncode == 0
    assert answer.stdout.count("k: 20 -> 7 (crops-") == 2
    found = json.loads(said("why", "crops", *words, "--json").stdout)
    assert [each["stage"] for each in found] == ["crops-raw", "crops-feature", "crops-windows"]
    assert said("why", "crop", *words).returncode == 2
