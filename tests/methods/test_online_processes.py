"""Methods over a stream in several processes, of which one is killed, and in any blocks."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.progress import Reporter
from pipeline.engine.runner import run_stage
from pipeline.run import Run
from pipeline.store.claims import living
from tests.helpers.clusters import again, aside, kill_at_a_unit, meddled, once, started, there
from tests.helpers.forked import start_abs
from tests.helpers.runs import Runner, digests, make_all
from tests.reference.case import array

METHODS = "scores.methods=[tda, dmn-zs]"
ALL = "scores.methods=[tda, boost-adapter, dmn-zs]", "methods.boost-adapter.n=3"

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

SLOW = """
import time
from stages.scores import ScoresWorker

real = ScoresWorker.compute

def compute(self, unit, inputs):
    found = real(self, unit, inputs)
    print("computed", flush=True)
    time.sleep(60)
    return found

ScoresWorker.compute = compute
"""
"""Lets a program wait where it has computed a unit of scores and not written it."""


def killed(dataset: Path, store: Path, *changes: str) -> None:
    """Kill a process that scores, while it is at a unit."""
    words = ["run", "--quiet", "--dataset", str(dataset), "--set", "scores.n=4"]
    words += [word for change in changes for word in ("--set", change)]
    output = store.parent / "output"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(store))
        process = start_abs(*words, output=output, first=SLOW)
    assert once(lambda: output.exists() and output.read_text() == "computed\n")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def logits(run: Run) -> np.ndarray:
    make_all(run)
    return array(run, "scores", "logits")


def test_scores_are_the_same_bytes_after_a_kill(
    made: Run, run_of: Runner, tiny: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tmp_path / "store", tmp_path / "copy")
    expected = logits(run_of(METHODS))
    killed(tiny, copy, METHODS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(copy))
        resumed = run_of(METHODS)
        claims = resumed.store.artifact(resumed.named("scores")[0]).path / "claims"
        assert not living(claims)
        assert np.array_equal(logits(resumed), expected)


@pytest.mark.cluster
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_scores_are_the_same_bytes_by_any_number_of_workers_though_one_is_killed(
    made: Run, run_of: Runner, tmp_path: Path, workers: int
) -> None:
    run = run_of(*ALL)
    before, scores = make_all(run)["scores"], run.named("scores")[0]
    (tmp_path / "cluster").mkdir()
    with (
        started(tmp_path / "cluster", workers) as (address, _),
        there(address) as engine,
        meddled(address, "stages.scores:ScoresWorker", seconds=0.5),
    ):
        killer = aside(lambda: kill_at_a_unit(run, scores))
        outcome = again(run, scores, engine)
        killer.result()
    assert outcome.computed == outcome.units
    assert digests(run)["scores"] == before


@pytest.mark.parametrize("block", [1, 8])
def test_scores_are_the_same_bytes_in_units_of_any_size(
    made: Run, run_of: Runner, block: int
) -> None:
    """Of the same embeddings, whose own last bits may depend on the batch."""
    run = run_of(*ALL)
    expected = logits(run)
    scores = replace(run.named("scores")[0], image_block=block)  # type: ignore[call-arg]
    assert run_stage(scores, run.store, Reporter(True), run.settings).computed == 8 // block
    found = np.asarray(run.store.open(scores).array("logits")[:])
    assert np.array_equal(found, expected)
