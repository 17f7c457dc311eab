"""A small dataset of real files, and a store of its own for every test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.commands import Run

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "pipeline" / "demo"

Runner = Callable[..., Run]


def write_dataset(folder: Path, classes: int = 2, images: int = 4, **layout: int) -> Path:
    """A dataset YAML over a few of the demo's images, copied below `folder`."""
    for chosen in sorted((DEMO / "images").iterdir())[:classes]:
        (folder / "images" / chosen.name).mkdir(parents=True)
        for image in sorted(chosen.iterdir())[:images]:
            shutil.copy2(image, folder / "images" / chosen.name)
    config = yaml.safe_load((ROOT / "cfgs" / "datasets" / "demo.yaml").read_text())
    config["dataset"] = {"name": "tiny", "root": str(folder / "images")}
    config["layout"] = {"images": 3, "crops": 2, **layout}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The YAML of a dataset of 2 classes x 4 images; the store lies beside it."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    return write_dataset(tmp_path)


@pytest.fixture
def run_of(tiny: Path) -> Runner:
    """Makes a Run over `tiny` with N = 4 and further changes."""

    def make(*changes: str) -> Run:
        return Run.of(str(tiny), "official", ["scores.n=4", *changes])

    return make


def make_all(run: Run) -> dict[str, str]:
    """Run every stage; the content digest of each artifact by stage."""
    run.execute(run.stages, [], quiet=True)
    return digests(run)


def digests(run: Run) -> dict[str, str]:
    """The content digest of each finished artifact by stage."""
    return {
        stage.name: run.store.open(stage).digest(stage.units(run.store)) for stage in run.stages
    }


def abs_command(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `abs` as a user does."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("abs")), *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=500,
    )
