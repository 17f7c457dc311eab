"""A small dataset of real files, and a store of its own for every test."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.cli import run_app
from pipeline.commands import Run
from pipeline.datasets.contents import InFolder
from pipeline.images import Images, decode

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
    config["scores"]["methods"] = ["clip", "cupl", "abs"]
    config["methods"] = {"wca": {"pool": 4, "n": 3}}
    config["runtime"]["threads"] = 1  # with batches this small, more would wait for each other
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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every stage of a run like `run_of()` is finished."""
    folder = tmp_path_factory.mktemp("finished")
    dataset = write_dataset(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
        make_all(Run.of(str(dataset), "official", ["scores.n=4"]))
    return folder / "store"


@pytest.fixture
def made(run_of: Runner, finished: Path, tmp_path: Path) -> Run:
    """`run_of()` with every stage finished, in a store of its own."""
    shutil.copytree(finished, tmp_path / "store")
    return run_of()


@pytest.fixture(scope="session")
def pictured() -> pd.DataFrame:
    """An index of three of the demo's images: a square and both oblongs."""
    files = sorted((DEMO / "images").glob("*/*"))[:3]
    shas = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return pd.DataFrame({"path": [str(file) for file in files], "sha256": shas})


@pytest.fixture
def images(pictured: pd.DataFrame) -> Images:
    """The same, as stages read them."""
    return Images(InFolder(Path("/")), pictured)


@pytest.fixture(scope="session")
def pictures(pictured: pd.DataFrame) -> list[Image.Image]:
    """The same, decoded."""
    return [decode(Path(path).read_bytes()) for path in pictured["path"]]


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


def said(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `abs` answers, run in this process: where nothing hangs on one of its own."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["abs", *map(str, words)])
        for name, value in environment.items():
            patch.setenv(name, value)
        code = run_app()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
