"""Methods over a stream in a process that is killed, and in the one that goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.run import Run
from pipeline.store.claims import living
from tests.helpers.runs import ROOT, Runner, make_all
from tests.reference.case import array

METHODS = "scores.methods=[tda, dmn-zs]"

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

SLOW = """
import sys, time
from stages.scores import ScoresWorker
from pipeline.__main__ import main

real = ScoresWorker.compute

def compute(self, unit, inputs):
    found = real(self, unit, inputs)
    print("computed", flush=True)
    time.sleep(60)
    return found

ScoresWorker.compute = compute
main()
"""
"""The program, which waits where it has computed a unit of scores and not written it."""


def killed(dataset: Path, store: Path, *changes: str) -> None:
    """Kill a process that scores, while it is at a unit."""
    words = ["run", "--quiet", "--dataset", str(dataset), "--set", "scores.n=4"]
    words += [word for change in changes for word in ("--set", change)]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *words],
        cwd=ROOT,
        env={**os.environ, "ABS_ARTIFACTS": str(store)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "computed" in process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


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
