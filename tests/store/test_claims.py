"""Processes that share a stage keep out of each other's way, and none waits for the dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.core.errors import AbsError
from pipeline.core.progress import Reporter
from pipeline.engine import runner
from pipeline.engine.runner import run_stage
from pipeline.run import Run
from pipeline.store import claims
from pipeline.store.claims import BEAT, STALE, Claims, living
from pipeline.store.ledger import Ledger, Receipt
from pipeline.store.writer import ArtifactWriter
from tests.helpers import clusters
from tests.helpers.claims import HERE, claim_of, gone
from tests.helpers.forked import ended, start_abs
from tests.helpers.runs import Runner, digests, said


def test_a_unit_is_claimed_once_and_given_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as ours:
        assert ours.take("a")
        assert not Claims(tmp_path).take("a")
        assert [claim.who for claim in living(tmp_path)] == [f"{HERE}:{os.getpid()}"]
        ours.release("a")
        assert not living(tmp_path)
        assert ours.take("a")
    assert not list(tmp_path.iterdir())


def test_nobody_holds_claims_in_a_folder_that_is_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listdir = tmp_path / "claims", os.listdir
    folder.mkdir()

    def removed(path: Path) -> list[str]:
        folder.rmdir()
        return listdir(path)

    monkeypatch.setattr(os, "listdir", removed)
    assert living(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize("age", [0.0, STALE - 10])
def test_a_living_claim_is_respected(tmp_path: Path, age: float) -> None:
    claim_of(tmp_path, "here", HERE, os.getppid(), age)
    claim_of(tmp_path, "elsewhere", "another-host", 1, age)
    with Claims(tmp_path) as ours:
        assert not ours.take("here")
        assert not ours.take("elsewhere")
    assert {claim.unit for claim in living(tmp_path)} == {"here", "elsewhere"}


def test_the_claim_of_a_process_that_ended_is_taken_over(tmp_path: Path) -> None:
    claim_of(tmp_path, "dead", HERE, gone())
    claim_of(tmp_path, "silent", "another-host", 1, STALE + 10)
    assert not living(tmp_path)
    with Claims(tmp_path) as ours:
        assert ours.take("dead")
        assert ours.take("silent")
        assert {claim.pid for claim in living(tmp_path)} == {os.getpid()}


def test_a_process_that_nobody_has_buried_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    claim_of(tmp_path, "a", HERE, process.pid)
    until = time.monotonic() + 60
    while living(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert not living(tmp_path)
    assert process.returncode is None
    process.wait()


ODD = [
    "",
    "[]",
    "{",
    '{"unit": "a"}',
    "\xff",
    "[" * 10**5,
    '{"unit": "a", "host": "h", "pid": "x"}',
]


@pytest.mark.parametrize("content", ODD)
def test_a_claim_that_is_being_written_or_damaged_is_one(tmp_path: Path, content: str) -> None:
    path = claim_of(tmp_path, "a", HERE, 1)
    path.write_bytes(content.encode("latin-1"))
    with Claims(tmp_path) as ours:
        assert not ours.take("a")
        os.utime(path, (0, 0))
        assert ours.take("a")


def test_a_process_number_of_another_kernel_says_nothing(tmp_path: Path) -> None:
    path = claim_of(tmp_path, "a", "another-host", gone())
    assert [claim.unit for claim in living(tmp_path)] == ["a"]
    os.utime(path, (time.time() + 2 * STALE,) * 2)  # its clock was set back since
    assert not living(tmp_path)


def test_a_claim_that_could_not_be_written_can_be_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Claims(tmp_path) as ours:
        with monkeypatch.context() as patch:
            for name in ("builtins.open", "os.link"):
                patch.setattr(name, lambda *words: _raise(OSError(28, "No space left")))
            with pytest.raises(OSError, match="No space"):
                ours.take("a")
        assert not living(tmp_path)
        assert ours.take("a")


def test_where_links_cannot_be_made_each_claim_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.link", lambda *words: _raise(OSError(1, "Operation not permitted")))
    claim_of(tmp_path, "elsewhere", "another-host", 1)
    with Claims(tmp_path) as ours:
        assert not ours.take("elsewhere")
        assert ours.take("a")
        assert not Claims(tmp_path).take("a")
        assert {claim.unit for claim in living(tmp_path)} == {"a", "elsewhere"}
        ours.release("a")
        assert ours.take("a")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.json"]


def test_a_process_makes_one_file_for_all_its_claims(tmp_path: Path) -> None:
    with Claims(tmp_path) as ours:
        assert ours.take("a")
        assert ours.take("b")
        assert {claim.unit for claim in living(tmp_path)} == {"a", "b"}
        assert len({path.stat().st_ino for path in tmp_path.iterdir()}) == 1
    with Claims(tmp_path) as ours:
        assert ours.take("a")
        claims.drop_all()  # as a signal does
        assert not list(tmp_path.iterdir())
        assert ours.take("a")  # the file that claims are names of is gone


def _raise(error: Exception) -> None:
    raise error


def test_what_another_process_took_over_is_not_given_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as ours:
        ours.take("a")
        claims._take_away(tmp_path / "a.json")  # as a process does that finds a claim stale
        claim_of(tmp_path, "a", "another-host", 1)
    assert [claim.host for claim in living(tmp_path)] == ["another-host"]


def test_a_heart_beats_as_long_as_a_claim_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.02)
    assert 3 * BEAT < STALE
    with Claims(tmp_path) as ours:
        ours.take("a")
        for _ in range(2):
            os.utime(tmp_path / "a.json", (0, 0))
            until = time.time() + 20
            while not living(tmp_path) and time.time() < until:
                time.sleep(0.02)
            assert living(tmp_path)


def together(run: Run, dataset: Path, number: int) -> list[dict[str, int]]:
    """`number` processes make all of `run` at once: units that each computed, by stage."""
    words = ["run", "--json", "--quiet", "--dataset", str(dataset)]
    words += ["--set", "scores.n=4 layout.images=1"]
    outputs = [dataset.parent / f"output-{number}" for number in range(number)]
    processes = [start_abs(*words, output=output) for output in outputs]
    answers = []
    for process, output in zip(processes, outputs, strict=True):
        done = ended(process, output)
        assert done.returncode == 0, done.stderr
        stages = json.loads(done.stderr)["stages"]
        answers.append({each["stage"]: each["computed"] for each in stages})
    return answers


@pytest.mark.slow
@pytest.mark.subprocess
def test_processes_that_share_a_stage_share_its_units(
    run_of: Runner, tiny: Path, one_by_one: dict[str, str]
) -> None:
    change = "layout.images=1"
    answers = together(run_of(change), tiny, 3)
    run = run_of(change)
    for stage in run.stages:
        units = len(stage.units(run.store))
        assert units <= sum(each[stage.name] for each in answers) <= units + 1
    assert digests(run) == one_by_one


def test_a_run_waits_for_units_that_another_is_at_and_takes_those_of_the_dead(
    run_of: Runner, made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stage = digests(made), made.named("crops-raw")[0]
    artifact = made.store.artifact(stage)
    names = artifact.ledger.units()
    artifact.forget(names[:3])
    claim_of(artifact.path / "claims", names[0], HERE, gone())
    slow = claim_of(artifact.path / "claims", names[1], "another-host", 1)
    asked = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 3:
            os.utime(slow, (0, 0))

    monkeypatch.setattr("pipeline.engine.runner.time.sleep", sleep)
    fresh = run_of()
    (outcome,) = fresh.execute([stage], [], quiet=True)
    assert (outcome.computed, len(asked)) == (3, 3)
    assert digests(fresh) == before


def test_what_another_process_finishes_meanwhile_is_not_computed(
    run_of: Runner, made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stage = digests(made), made.named("crops-raw")[0]
    artifact = made.store.artifact(stage)
    name = artifact.ledger.units()[2]
    receipt = artifact.ledger.stored()[name]
    artifact.forget([name])
    claim = claim_of(artifact.path / "claims", name, "another-host", 1)

    def finish(seconds: float) -> None:
        artifact.ledger.write(receipt)
        claim.unlink()

    monkeypatch.setattr("pipeline.engine.runner.time.sleep", finish)
    fresh = run_of()
    (outcome,) = fresh.execute([stage], [], quiet=True)
    assert (outcome.state, outcome.computed) == ("computed", 0)
    assert artifact.ledger.stored()[name] == receipt
    assert digests(fresh) == before


def test_a_stage_is_claimed_until_its_manifest_is_written(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = made.named("crops-raw")[0]
    folder, seen = made.store.artifact(stage).path / "claims", []
    finalise = ArtifactWriter.finalise

    def look(self: ArtifactWriter, *words: Any) -> None:
        seen.append([claim.pid for claim in living(folder)])
        finalise(self, *words)

    monkeypatch.setattr(ArtifactWriter, "finalise", look)
    made.execute([stage], [stage], quiet=True)
    assert seen == [[os.getpid()]]
    assert not living(folder)


def test_what_a_living_process_is_at_is_not_removed(run_of: Runner, made: Run) -> None:
    stage = made.named("crops-raw")[0]
    claim = claim_of(made.store.artifact(stage).path / "claims", "00000-000", "another-host", 7)
    with pytest.raises(AbsError, match="--force crops-raw: in use by another-host:7"):
        run_of().execute([stage], [stage], quiet=True)
    made.store.open(stage)
    claim.unlink()
    (outcome,) = run_of().execute([stage], [stage], quiet=True)
    assert outcome.computed == outcome.units


@pytest.mark.slow
@pytest.mark.subprocess
def test_an_interrupted_run_gives_its_claims_back_and_goes_on_later(
    tiny: Path, tmp_path: Path
) -> None:
    words = ["run", "--dataset", str(tiny), "--set", "scores.n=120 layout.images=1"]
    store = tmp_path / "store" / "tiny"

    def interrupted(number: signal.Signals) -> dict[str, Receipt]:
        """Receipts of a run that a signal ended while it was at raw crops."""
        output = tmp_path / f"output-{number}"
        command = start_abs(*words, output=output)
        process = psutil.Process(command.pid)
        hold_with_claim(process)
        states = said("status", "--json", *words[1:])
        process.send_signal(number)
        process.resume()
        done = ended(command, output)
        assert done.returncode == 128 + number
        assert "the same command goes on from there" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(store.glob("*/*/claims/*.json"))
        running = {row["stage"]: row.get("running") for row in json.loads(states.stdout)}
        assert running["embeddings-raw"] == [f"{HERE}:{process.pid}"]
        return receipts()

    def hold_with_claim(process: psutil.Process) -> None:
        """Stop a process while it has a claim on raw crops, so that it cannot end the unit."""
        until = time.time() + 120
        while time.time() < until:
            process.suspend()
            clusters.once(partial(clusters.is_stopped, process))
            if list(store.glob("embeddings-raw/*/claims/*.json")):
                return
            process.resume()
            time.sleep(0.05)

    def receipts() -> dict[str, Receipt]:
        (folder,) = store.glob("embeddings-raw/*")
        return Ledger(folder).stored()

    first = interrupted(signal.SIGINT)
    kept = interrupted(signal.SIGTERM)
    fewer = words[-1].replace("120", "4")  # of the same crops: all of them would take minutes
    assert said(*words[:-1], fewer, "-q").returncode == 0
    assert first.items() <= kept.items() <= receipts().items()


@pytest.mark.slow
def test_whom_a_stage_waits_for_is_said(
    made: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "REPORT_AFTER", 0.3)
    before, stage = digests(made), made.named("attention")[0]
    artifact = made.store.artifact(stage)
    artifact.remove()
    claim = claim_of(artifact.path / "claims", "00001", "another-host", 7)
    words = stage, made.store, Reporter(), made.settings
    waiting = threading.Thread(target=lambda: run_stage(*words))
    waiting.start()
    heard: list[str] = []
    told = "waiting for 1 unit claimed by another-host:7"
    while waiting.is_alive() and told not in "".join(heard):
        heard.append(capfd.readouterr().err)
        time.sleep(0.05)
    claim.unlink()
    waiting.join()
    assert "".join(heard).count(told) == 1
    assert digests(made) == before
