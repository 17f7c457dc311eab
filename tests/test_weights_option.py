"""The folder of weights as an option of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

from pipeline.cli import app
from pipeline.commands import Run
from tests.conftest import ROOT


def test_the_folder_of_weights_on_the_command_line_wins_over_the_environment(
    tmp_path: Path,
) -> None:
    code = "import sys; from pipeline.cli import app; app(sys.argv[1:])"
    words = ["config", "-d", "demo", "--json", "--set", "paths.weights=/set", "--resolved"]
    environment = {**os.environ, "ABS_WEIGHTS": "/environment"}
    for more, place in ((["--weights-dir", "here"], f"{tmp_path}/here"), ([], "/environment")):
        command = [sys.executable, "-c", code, *words, *more]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
        assert f'"weights": "{place}"' in done.stdout, done.stderr


def test_every_command_about_a_dataset_takes_the_folder_of_weights() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {name: {each.name for each in found.params} for name, found in commands.items()}
    about = {name for name, names in options.items() if "dataset" in names}
    assert {"run", "status", "path", "config", "attention", "embeddings"} <= about
    assert about - {"gc"} == {name for name, names in options.items() if "weights_dir" in names}


def test_a_suggested_command_keeps_the_folder_of_weights(tiny: Path, tmp_path: Path) -> None:
    run = Run.of(str(tiny), "official", [], f"{tmp_path}/my weights")
    assert f"--weights-dir '{tmp_path}/my weights'" in run.store.options
    assert run.settings.paths.weights == f"{tmp_path}/my weights"
