"""Nothing goes that a run needs or a process is at; all else goes, and only when asked to."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pipeline.commands import Run
from pipeline.gc import Waste, delete, waste
from pipeline.runs import Record, records
from pipeline.store import put_aside
from tests.conftest import Runner, digests, said
from tests.test_claims import HERE, claim_of

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


def test_what_no_recent_run_needs_is_waste(run_of: Runner, made: Run) -> None:
    execute(run_of("crops.seed=1"))
    made_days_ago(made, 40)
    last = execute(run_of())
    assert {record.options for record in records(last.store)} >= {last.store.options}
    found = waste(last.store, 30)
    changed = {"crops-raw", "crops-feature", "embeddings-raw", "scores", "metrics"}
    assert paths(found) == {*changed, "runs"}
    assert not waste(last.store, 50)
    before = digests(last)
    assert all(map(delete, found))
    assert digests(last) == before
    assert not waste(last.store, 30)
    assert {outcome.state for outcome in last.execute(last.stages, [], True)} == {"cached"}


def test_what_the_last_run_needs_stays_however_old_it_is(run_of: Runner, made: Run) -> None:
    execute(run_of("crops.seed=1"))
    last = execute(run_of())
    made_days_ago(last, 400)
    os.utime(record_of(last).path / "run.json")
    found = waste(last.store, 0)
    needed = {stage.key for stage in last.stages}
    assert found
    assert not {each.path.name for each in found} & needed


def test_what_a_process_is_at_stays(run_of: Runner, made: Run) -> None:
    other = execute(run_of("crops.seed=1"))
    last = execute(run_of())
    made_days_ago(made, 400)
    os.utime(record_of(last).path / "run.json")
    scores = other.store.artifact(other.named("scores")[0])
    claim_of(scores.path / "claims", "00001", "another-host", 1)
    found = waste(last.store, 0)
    assert "scores" not in paths(found)
    assert "embeddings-raw" in paths(found)
    claim_of(record_of(other).path / "claims", "any", HERE, os.getppid())
    assert not [each for each in waste(last.store, 0) if each.path.name in
                {stage.key for stage in other.stages}]  # fmt: skip


def test_a_claim_made_at_the_last_moment_is_respected(run_of: Runner, made: Run) -> None:
    execute(run_of("crops.seed=1"), "crops-raw")
    artifact = run_of("crops.seed=1").store.artifact(run_of("crops.seed=1").named("crops-raw")[0])
    found = Waste(artifact.path, 0, "any")
    claim = claim_of(artifact.path / "claims", "00000-000", "another-host", 1)
    assert not delete(found)
    assert artifact.path.exists()
    claim.unlink()
    assert delete(found)
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
    found = waste(made.store, 30)
    assert {each.path for each in found} == {temporary, aside}
    assert all(map(delete, found))
    assert not temporary.exists()
    assert not aside.exists()
    assert fresh.exists()


def test_the_command_deletes_only_when_asked_to(run_of: Runner, made: Run, tiny: Path) -> None:
    execute(run_of("crops.seed=1"))
    made_days_ago(made, 40)
    execute(run_of())
    listed = json.loads(said("gc", "--json").stdout)
    assert listed
    assert not any(each["deleted"] for each in listed)
    assert all(Path(each["path"]).exists() for each in listed)
    shown = said("gc", "--dataset", tiny)
    assert "could go; add --delete" in shown.stdout
    assert "Nothing to delete" in said("gc", "--keep-days", "41").stdout
    gone = said("gc", "--delete", "--dataset", "tiny")
    assert "deleted." in gone.stdout
    assert not any(Path(each["path"]).exists() for each in listed)
    assert said("gc").stdout.startswith("Nothing to delete")
    assert said("gc", "--dataset", "no-such-dataset").returncode == 2
    assert said("gc", "--keep-days", "-1").returncode == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"options": 1}'])
def test_a_damaged_record_is_no_record(made: Run, content: str) -> None:
    folder = made.store.folder / "runs" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(content)
    assert "0123456789abcdef" not in {record.path.name for record in records(made.store)}
    assert folder not in {artifact.path for artifact in made.store.artifacts()}
