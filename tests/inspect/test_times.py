"""Work and time are predicted: counts before there is anything, seconds by receipts or a probe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import files
from pipeline.core.progress import Reporter, clock
from pipeline.engine.base import Part
from pipeline.engine.inline import Inline
from pipeline.engine.runner import run_stage
from pipeline.inspect import status, times
from pipeline.run import Run
from pipeline.stage import Cost, Stage
from pipeline.store.store import Store
from stages.embeddings import ImageEmbeddings
from tests.helpers.runs import Runner, bytes_of_arrays, said


def test_counts_are_known_before_the_first_stage_and_are_those_of_the_run(
    made: Run, tmp_path: Path
) -> None:
    empty = Store(tmp_path / "empty", made.store.dataset)
    before = times.foresee(empty, made.stages, probing=False)
    for stage, ahead in zip(made.stages, before, strict=True):
        units = stage.units(made.store)
        counted = sum(stage.items(made.store, unit) for unit in units)
        assert (ahead.stage, ahead.units, ahead.items) == (stage.name, len(units), counted)


def test_bytes_are_known_before_the_first_stage_and_are_those_of_the_run(
    made: Run, tmp_path: Path
) -> None:
    empty = Store(tmp_path / "empty", made.store.dataset)
    planned = {row["stage"]: row["writes"] for row in status.plan(empty, made.stages)}
    for stage in made.stages:
        if stage.name.startswith(("embeddings", "scores")):
            assert planned[stage.name] == bytes_of_arrays(made, stage.name) > 0
        elif planned[stage.name] is not None:
            assert stage.name.startswith("descriptions")


def test_a_finished_run_has_nothing_to_do_and_one_that_is_forced_has(made: Run) -> None:
    done = times.foresee(made.store, made.stages)
    assert times.total(done) == 0
    forced = times.foresee(made.store, made.stages, made.named("embeddings-raw"))
    assert [each.stage for each in forced if each.units] == ["embeddings-raw"]


def write_receipts(run: Run, stage: Stage, item: float, load: float, **maker: Any) -> None:
    """Make receipts and manifest say what units took on this machine: `item` seconds an image."""
    artifact = run.store.artifact(stage)
    for unit in stage.units(run.store):
        receipt = artifact.ledger.read(unit.name)
        assert receipt
        seconds = {"read": item / 4 * unit.size, "compute": item * unit.size, "write": 0.1}
        kept = {name: value for name, value in receipt.maker.items() if name != "sharing"}
        told = {**kept, "host": os.uname().nodename, **maker}
        stored = {**receipt.__dict__, "seconds": seconds, "maker": told}
        files.write_sealed(artifact.ledger.path(unit.name), stored)
    path = artifact.path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"last_pass": {"load": load}, "makers": [{**maker, "units": 3}]}
    files.write_sealed(path, manifest)


def test_seconds_come_from_receipts_of_this_machine(made: Run) -> None:
    (stage,) = made.named("embeddings-image")
    write_receipts(made, stage, item=2.0, load=5.0, sharing=1)
    ((seen,)) = times.foresee(made.store, [stage], [stage])
    assert (seen.items, seen.basis) == (8, "receipts")
    assert seen.seconds == pytest.approx(2.0 * 8 + 5.0)


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        (2, 2.0 * 8 * 2 / 3 + 6.0 / 2),  # of three units, one worker gets two
        (3, 2.0 * 8 / 3 + 6.0 / 3),
        (5, 2.0 * 8 / 3 + 6.0 / 5),  # no more than a unit each
    ],
)
def test_workers_are_predicted_by_receipts_of_as_many(
    made: Run, workers: int, seconds: float
) -> None:
    """Receipts hold the seconds of one of them; a manifest, those that all took to load."""
    (stage,) = made.named("embeddings-image")
    write_receipts(made, stage, item=2.0, load=6.0, sharing=workers)
    (seen,) = times.foresee(made.store, [stage], [stage], probing=False, sharing=workers)
    assert seen.seconds == pytest.approx(seconds)
    told = f"about {clock(seconds)} by receipts of this machine with {workers} workers"
    assert told in times.in_words([seen], workers)
    for other in (1, 4, None):
        (unknown,) = times.foresee(made.store, [stage], [stage], probing=False, sharing=other)
        assert (unknown.seconds, unknown.basis) == (None, "")


def test_receipts_that_do_not_say_who_shared_the_machine_tell_nothing(made: Run) -> None:
    (stage,) = made.named("embeddings-image")
    write_receipts(made, stage, item=2.0, load=6.0)
    for sharing in (1, 2):
        (unknown,) = times.foresee(made.store, [stage], [stage], probing=False, sharing=sharing)
        assert unknown.seconds is None


def test_receipts_say_how_many_processes_shared_the_machine(made: Run) -> None:
    stage = made.named("crops-raw")[0]
    for part, sharing in ((Part(), 1), (Part(1, 2), None)):
        made.store.artifact(stage).remove()
        run_stage(stage, made.store, Reporter(True), made.settings, Inline(part))
        receipts = made.store.open(stage).ledger.receipts().values()
        assert {receipt.maker.get("sharing") for receipt in receipts} == {sharing}


def test_a_model_without_receipts_is_measured_once(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of()
    (stage,) = run.named("embeddings-image")
    calls = []

    def probe(self: ImageEmbeddings) -> Cost:
        calls.append(self.name)
        return Cost(load=5.0, item=0.25)

    monkeypatch.setattr(ImageEmbeddings, "probe", probe)
    (unknown,) = times.foresee(run.store, [stage], probing=False)
    assert unknown.seconds is None
    for _ in range(2):
        (seen,) = times.foresee(run.store, [stage])
        assert (seen.seconds, seen.basis) == (5.0 + 8 * 0.25, "probe")
    assert calls == ["embeddings-image"]
    assert "about 0:00:07 by a probe of its models" in times.in_words([seen])
    (nothing,) = times.foresee(run.store, [stage], sharing=None)
    assert "about" not in times.in_words([nothing], None)


def test_plan_and_the_start_of_a_run_say_crops_units_and_time(tiny: str) -> None:
    plan = json.loads(said("plan", tiny, "-s", "scores.n=4", "--json").stdout)
    rows = {row["stage"]: row for row in plan}
    assert (rows["embeddings-raw"]["items"], rows["embeddings-raw"]["counts"]) == (32, "crops")
    assert rows["embeddings-raw"]["todo"] == 6
    assert all(row["seconds"] > 0 for row in plan)
    printed = said("run", tiny, "-s", "scores.n=4", "--dry-run").stdout
    assert "32 crops" in printed
    assert "Time on this machine: about 0:0" in printed
    table = printed.partition("To compute:")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80


def test_receipts_of_what_is_made_once_more_predict_its_time(
    made: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = made.named("crops-raw")[0]
    made.execute([stage], [stage], quiet=False)
    assert "by receipts" in capfd.readouterr().err
