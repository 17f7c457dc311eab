"""The built wheel, installed outside the tree: the demo end to end, and a folder of one's own."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.core.layers import CFGS
from tests.helpers.demo import EACH, write_images
from tests.helpers.runs import DEMO, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

Abs = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("-s", "scores.methods=[clip,cupl,abs] scores.n=2 layout.crops=2 windows.encode=drawn")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment in which the wheel is installed.

    The packages that it depends on are those of this environment, which the checkout is not in:
    `.pth` files of a folder that is itself named in one are not read.
    """
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True, cwd=folder)
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = [*pip, "--python", str(python), "install", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, cwd=folder)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


@pytest.fixture
def run_abs(python: Path, tmp_path: Path) -> Abs:
    """Run `abs` in an empty folder."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("ABS_", "PYTHONPATH"))}

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command, env = [str(python.with_name("abs")), *words], {**environment, **more}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)

    return run


def test_the_code_that_runs_is_that_of_the_wheel(python: Path, run_abs: Abs) -> None:
    code = "import pipeline, stages; print(pipeline.__file__, stages.__file__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.count(str(python.parents[1])) == 2, done.stderr
    assert run_abs("--version").stdout.startswith("abs-pipeline ")


def test_the_demo_runs_end_to_end_in_an_empty_folder(
    python: Path, run_abs: Abs, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Index all shipped images, then run every stage on two of each class."""
    shipped = run_abs("run", "--to", "index", "--dataset", "demo", "--json")
    assert shipped.returncode == 0, shipped.stderr
    path = run_abs("path", "index", "--dataset", "demo").stdout.strip()
    assert len(pd.read_parquet(f"{path}/images.parquet")) == 480
    few = {"ABS_DATA": str(write_images(tmp_path_factory.mktemp("few")))}  # found first
    done = run_abs("run", "--dataset", "demo", "--json", *SMALL, **few)
    assert done.returncode == 0, done.stderr
    results = {row["method"]: row for row in json.loads(done.stdout)["results"]}
    assert set(results) == {"clip", "cupl", "abs"}
    assert results["abs"]["images"] == 24 * EACH
    assert results["cupl"]["top1"] > 0.8  # chance is 0.04
    assert {path.name for path in tmp_path.iterdir()} == {"artifacts"}
    assert run_abs("run", "--dataset", "demo", *SMALL, **few).stdout.startswith("Nothing to do")
    code = "from pipeline import load; print(len(load.scores('demo', 'abs')))"
    read = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert read.stdout.strip() == str(24 * EACH), read.stderr


def test_a_folder_of_configurations_adds_to_those_that_ship(run_abs: Abs, tmp_path: Path) -> None:
    for bird in sorted((DEMO / "images").iterdir())[:2]:
        shutil.copytree(bird, tmp_path / "birds" / bird.name)
    made = run_abs("init", "mine", "--images", "birds")
    assert made.returncode == 0, made.stderr
    own = tmp_path / "cfgs" / "datasets" / "mine.yaml"
    assert yaml.safe_load(own.read_text())["dataset"]["name"] == "mine"
    (tmp_path / "cfgs" / "profiles").mkdir()
    profile = (CFGS / "profiles" / "paper.yaml").read_text()
    (tmp_path / "cfgs" / "profiles" / "ours.yaml").write_text(profile)
    found = run_abs("doctor", "mine", "--profile", "ours")
    assert found.returncode == 0, found.stdout + found.stderr
    assert run_abs("config", "--dataset", "cub").returncode == 0
    unknown = run_abs("config", "--dataset", "min")
    assert unknown.returncode == 2
    assert "did you mean 'mine'?" in unknown.stderr
