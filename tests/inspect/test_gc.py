"""Nothing goes that a run needs or a process is at; all else goes, and only when asked to."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.inspect.gc import Waste, delete, unreferenced
from pipeline.run import Run
from pipeline.store.artifact import put_aside
from pipeline.store.runs import Record, on_record, records
from tests.helpers.claims import HERE, claim_of
from tests.helpers.runs import Runner, digests, said

DAY = 86400


def made_days_ago(run: Run, days: float, other: Run | None = None) -> None:
    """Everything of the store that `other` does not need, as if it were that old."""
    then = time.time() - days * DAY
    needed = {stage.key for stage in other.stages} if other else set()
    for path in sorted(run.store.folder.rglob("*"), reverse=True):
        if not needed & set(path.parts):
            os.utime(path, (then, then))


def execute(run: Run, *names: str) -> Run:
    stages = [stage for name in names for stage in run.named(name)] or run.stages
    run.execute(stages, [], quiet=True)
    return run


def record_of(run: Run) -> Record:
    return next(each for each in records(run.store) if each.options == run.store.options)


def paths(found: list[Waste]) -> set[str]:
    return {each.path.parent.name for each in found}


@pytest.mark.slow
def test_what_no_recent_run_needs_is_waste(run_of: Runner, made: Run) -> None:
    execute(run_of("crops.seed=1"))
    made_days_ago(made, 40)
    last = execute(run_of())
    assert {record.options for record in records(last.store)} >= {last.store.options}
    found = unreferenced(last.store, 30)
    changed = {"crops-raw", "crops-feature", "embeddings-raw", "scores", "metrics"}
    assert paths(found) == {*changed, "runs"}
    assert not unreferenced(last.store, 50)
    before = digests(last)
    assert all(delete(last.store, each) for each in found)
    assert digests(last) == before
    assert not unreferenced(last.store, 30)
    assert {outcome.state for outcome in last.execute(last.stages, [], True)} == {"cached"}


@pytest.mark.slow
def test_what_the_last_run_needs_stays_however_old_it_is(run_of: Runner, made: Run) -> None:
    execute(run_of("crops.seed=1"))
    last = execute(run_of())
    made_days_ago(last, 400)
    os.utime(record_of(last).path / "run.json")
    found = unreferenced(last.store, 0)
    needed = {stage.key for stage in last.stages}
    assert found
    assert not {each.path.name for each in found} & needed


@pytest.mark.slow
def test_what_a_process_is_at_stays(run_of: Runner, made: Run) -> None:
    other = execute(run_of("crops.seed=1"))
    last = execute(run_of())
    made_days_ago(made, 400)
    os.utime(record_of(last).path / "run.json")
    scores = other.store.artifact(other.named("scores")[0])
    claim_of(scores.path / "claims", "00001", "another-host", 1)
    found = unreferenced(last.store, 0)
    assert "scores" not in paths(found)
    assert "embeddings-raw" in paths(found)
    claim_of(record_of(other).path / "claims", "any", HERE, os.getppid())
    assert not [each for each in unreferenced(last.store, 0) if each.path.name in
                {stage.key for stage in other.stages}]  # fmt: skip


def test_a_claim_made_at_the_last_moment_is_respected(run_of: Runner, made: Run) -> None:
    execute(run_of("crops.seed=1"), "crops-raw")
    artifact = run_of("crops.seed=1").store.artifact(run_of("crops.seed=1").named("crops-raw")[0])
    found = Waste(artifact.path, 0, "any")
    claim = claim_of(artifact.path / "claims", "00000-000", "another-host", 1)
    assert not delete(made.store, found)
    assert artifact.path.exists()
    claim.unlink()
    with on_record(made.store, run_of("crops.seed=1").stages, made.settings):
        assert not delete(made.store, found)
        assert artifact.path.exists()
    assert delete(made.store, found)
    assert not artifact.path.exists()


def test_what_killed_processes_left_goes(made: Run) -> None:
    artifact = made.store.artifact(made.named("scores")[0])
    temporary = artifact.path / "ledger" / ".00000.json.1.abc"
    fresh = artifact.path / "ledger" / ".00001.json.1.abc"
    for path in (temporary, fresh):
        path.write_text("x")
    os.utime(temporary, (0, 0))
    other = made.store.artifact(made.named("metrics")[0])
    aside = put_aside(other.path)
    found = unreferenced(made.store, 30)
    assert {each.path for each in found} == {temporary, aside}
    assert all(delete(made.store, each) for each in found)
    assert not temporary.exists()
    assert not aside.exists()
    assert fresh.exists()


@pytest.mark.slow
def test_the_command_deletes_only_when_asked_to(run_of: Runner, made: Run, tiny: Path) -> None:
    execute(run_of("crops.seed=1"))
    made_days_ago(made, 40)
    execute(run_of())
    listed = json.loads(said("gc", "--json").stdout)
    assert listed
    assert not any(each["deleted"] for each in listed)
    assert all(Path(each["path"]).exists() for each in listed)
    shown = said("gc", "--dataset", tiny)
    assert "can be deleted; add --delete" in shown.stdout
    assert "Nothing to delete" in said("gc", "--keep-days", "41").stdout
    gone = said("gc", "--delete", "--dataset", "tiny")
    assert "deleted." in gone.stdout
    assert not any(Path(each["path"]).exists() for each in listed)
    assert said("gc").stdout.startswith("Nothing to delete")
    assert said("gc", "--dataset", "no-such-dataset").returncode == 2
    assert said("gc", "--keep-days", "-1").returncode == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"options": 1}', '{"artifacts": 3}'])
def test_a_damaged_record_keeps_everything(
    run_of: Runner, made: Run, tmp_path: Path, content: str
) -> None:
    execute(run_of())
    made_days_ago(made, 400)
    (record,) = records(made.store)
    (record.path / "run.json").write_text(content)
    answer = said("gc", "--delete")
    assert answer.returncode == 1
    assert str(record.path) in answer.stderr
    assert str(record.path) in said("verify").stdout
    execute(run_of())
    assert said("gc", "--delete").returncode == 0
    assert {outcome.state for outcome in made.execute(made.stages, [], True)} == {"cached"}


@pytest.mark.parametrize("name", ["..", ".", "../other", "/tmp", ".memory", "tiny/index"])
def test_only_datasets_of_the_store_are_looked_at(made: Run, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "other" / "train" / "0123456789abcdef"
    (outside / "ledger").mkdir(parents=True)
    os.utime(outside / "ledger", (0, 0))
    for command in ("gc", "verify"):
        answer = said(command, "--dataset", name)
        assert (answer.returncode, answer.stdout) == (2, "")
    assert outside.exists()


def test_a_folder_that_is_no_artifact_is_left_alone(made: Run) -> None:
    folder = made.store.folder / "notes" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("x")
    os.utime(folder, (0, 0))
    assert folder not in {each.path for each in unreferenced(made.store, 0)}


def test_a_link_goes_and_what_it_leads_to_stays(run_of: Runner, made: Run, tmp_path: Path) -> None:
    other = execute(run_of("crops.seed=1"), "crops-raw")
    artifact = other.store.artifact(other.named("crops-raw")[0])
    shutil.rmtree(record_of(other).path)
    target = artifact.path.rename(tmp_path / "elsewhere")
    artifact.path.symlink_to(target)
    for path in (target / "ledger", target / "identity.json", target / "manifest.json"):
        os.utime(path, (0, 0))
    (found,) = [each for each in unreferenced(made.store, 1) if each.path == artifact.path]
    assert delete(made.store, found)
    assert not artifact.path.is_symlink()
    assert (target / "manifest.json").exists()
    assert not list(artifact.path.parent.glob(".trash*"))


def test_temporaries_of_zarr_and_claims_of_the_dead_go(made: Run) -> None:
    artifact = made.store.artifact(made.named("attention")[0])
    chunk = artifact.path / "attention.zarr" / "c" / "0" / "0" / "0" / f"0.{'a' * 32}.partial"
    chunk.write_text("x")
    claim = claim_of(artifact.path / "claims", "00000", "another-host", 1)
    for path in (chunk, claim):
        os.utime(path, (0, 0))
    assert {each.path for each in unreferenced(made.store, 30)} == {chunk, claim}


def test_a_look_does_not_renew_what_is_old(run_of: Runner, made: Run) -> None:
    execute(run_of())
    other = execute(run_of("crops.seed=1"), "crops-raw")
    made_days_ago(made, 400, run_of())
    os.utime(record_of(run_of()).path / "run.json")
    artifact = other.store.artifact(other.named("crops-raw")[0])
    os.utime(claim_of(artifact.path / "claims", "00000", "another-host", 1), (0, 0))
    for _ in range(2):
        said("status", "--dataset", "tiny")
        assert artifact.path in {each.path for each in unreferenced(made.store, 30)}
