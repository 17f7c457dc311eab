"""Work and time are foretold: counts before anything is there, seconds from receipts or a probe."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.inspect import status, times
from pipeline.run import Run
from pipeline.stage import Cost
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


def test_seconds_come_from_receipts_of_this_machine(made: Run) -> None:
    (stage,) = made.named("embeddings-image")
    artifact = made.store.artifact(stage)
    for unit in stage.units(made.store):
        receipt = artifact.ledger.read(unit.name)
        assert receipt
        seconds = {"read": 0.5 * unit.size, "compute": 2.0 * unit.size, "write": 0.1}
        stored = {**receipt.__dict__, "seconds": seconds}
        stored["maker"] = {**receipt.maker, "host": os.uname().nodename}
        files.write_sealed(artifact.ledger.path(unit.name), stored)
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    load = manifest["last_pass"].get("load", 0.0)
    ((seen,)) = times.foresee(made.store, [stage], [stage])
    assert (seen.items, seen.basis) == (8, "receipts")
    assert seen.seconds == pytest.approx(2.0 * 8 + load)


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
    assert "about" not in times.in_words([seen], here=False)


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
