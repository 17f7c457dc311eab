"""Arrays of tasks, started as Slurm would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import clusters
from tests.helpers.clusters import once
from tests.helpers.runs import ROOT, Runner, digests

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]


def tasks(tiny: Path, numbers: list[int], **environment: str) -> list[subprocess.Popen[str]]:
    """The script as Slurm runs it: a task each, all at once."""
    words = ["bash", str(ROOT / "docs" / "abs-array.sbatch"), "--dataset", str(tiny)]
    array = {"SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "1"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    common = {**clusters.environment(), **array, "PATH": path, "SLURM_SUBMIT_DIR": str(ROOT)}
    return [
        subprocess.Popen(
            [*words, "--set", "scores.n=4 layout.images=1"],
            env={**common, "SLURM_ARRAY_TASK_ID": str(number), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]


def test_an_array_of_tasks_makes_the_same_bytes_though_one_is_killed(
    run_of: Runner, tiny: Path, one_by_one: dict[str, str]
) -> None:
    run = run_of("layout.images=1")
    first, *others = tasks(tiny, [5, 7, 12])  # as --array=5,7,12 numbers them
    once(lambda: list(run.store.folder.glob("descriptions-*/*/manifest.json")))
    first.kill()
    said_by = [task.communicate(timeout=300) for task in others]
    assert [task.returncode for task in others] == [0, 0], said_by
    assert all(": done, " in err for _, err in said_by)
    assert digests(run) == one_by_one


def test_the_script_says_how_it_is_submitted(tiny: Path) -> None:
    (task,) = tasks(tiny, [1], SLURM_ARRAY_TASK_ID="")
    assert "submit this as a job array" in task.communicate(timeout=60)[1]
    assert task.returncode == 1
