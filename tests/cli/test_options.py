"""Options that many commands share: the folder of weights, and where units are done."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.app import COMMANDS, import_command
from pipeline.run import Run
from tests.cli.test_grammar import STORED
from tests.helpers.runs import ROOT, said


@pytest.mark.slow
@pytest.mark.subprocess
def test_the_folder_of_weights_on_the_command_line_wins_over_the_environment(
    tmp_path: Path,
) -> None:
    code = "import sys; from pipeline.cli.app import app; app(sys.argv[1:])"
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
    options = {name: {each.name for each in import_command(name).params} for name in COMMANDS}
    about = {name for name, names in options.items() if "dataset" in names} - STORED
    assert {"run", "status", "path", "config", "attention", "embeddings"} <= about
    images = {"classify", "try"}  # which need no dataset
    assert about | images == {name for name, names in options.items() if "weights_dir" in names}


def test_a_suggested_command_keeps_the_folder_of_weights(tiny: Path, tmp_path: Path) -> None:
    run = Run.of(str(tiny), "official", [], f"{tmp_path}/my weights")
    assert f"--weights-dir '{tmp_path}/my weights'" in run.store.options
    assert run.settings.paths.weights == f"{tmp_path}/my weights"


def test_an_option_of_several_commands_is_declared_once() -> None:
    files = [ROOT / "pipeline" / "options.py", *ROOT.glob("pipeline/cli/**/*.py")]
    helps = [
        ast.unparse(keyword.value)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option"
        for keyword in node.keywords
        if keyword.arg == "help"
    ]
    assert len(helps) > 60
    assert {text for text in helps if helps.count(text) > 1} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_and_the_help_of_a_command_agree(name: str) -> None:
    help_text = import_command(name).help or ""
    assert help_text.splitlines()[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", ["index", "crops", "scores"])
def test_the_help_of_a_stage_says_what_it_writes(name: str) -> None:
    answer = said(name, "--help")
    assert COMMANDS[name].help in answer.stdout
    assert ".parquet" in answer.stdout


# --- Where units are done ---------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "\uff11/3"])
def test_a_part_that_is_none_is_refused(tiny: Path, part: str) -> None:
    answer = said("run", "--dataset", tiny, f"--part={part}")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == f"abs: --part {part!r}: expected NUMBER/COUNT, such as 3/16\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--scheduler", "tcp://a:1", "--workers", "2"],
        ["--scheduler", "tcp://a:1", "--part", "1/2"],
        ["--scheduler", ""],
        ["--scheduler", "host:8786"],
        ["--scheduler", "tcp://host"],
        ["--scheduler", "tcp://host:1/x"],
        ["--scheduler", "tcp://host:abc"],
        ["--scheduler", "tcp://a:b@host:8786"],
        ["--scheduler", "tcp://host:0"],
        ["--scheduler", "tcp://host:65536"],
        ["--scheduler", "tcp://host:\uff11"],
        ["--scheduler", "http://host:8786"],
        ["--workers", "0"],
    ],
)
def test_options_that_cannot_be_meant_are_refused(tiny: Path, words: list[str]) -> None:
    for command in (["run"], ["embeddings", "raw"], ["sweep", "--over", "crops.k=5"]):
        answer = said(*command, "--dataset", tiny, *words)
        assert answer.returncode == 2
        assert answer.stderr.count("\n") == 1
