"""The pages hold: what they tell a user to run runs, links lead somewhere, names exist.

A block of code in front of which a comment says why it is not run (`<!-- not run: reason -->`) is
checked as far as it can be: commands and options exist, targets of make exist, Python compiles.
Sweeps are only planned.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.app import COMMANDS
from tests.docs import model_names
from tests.docs.pages import (
    Block,
    anchors,
    blocks,
    links,
    markers,
    prose,
    tables,
    words_before_code,
)
from tests.helpers.demo import finished_demo
from tests.helpers.forked import run_python
from tests.helpers.runs import ROOT, said

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md"]
OTHERS = [ROOT / folder / "README.md" for folder in ("artifacts", "findings", "pipeline/demo")]
"""Pages that are read beside files, and have no commands of a user."""
LANGUAGES = {"sh", "python", "yaml", "json", "text", "bibtex"}
EXAMPLES = {"cfgs/datasets/birds.yaml", "cfgs/datasets/NAME.yaml", "cfgs/profiles/NAME.yaml"}
"""Files that a user makes."""
OWN_SETTINGS = ("methods.best-crop.", "descriptions.sketches.")
"""Settings of a method and of a text set that a page defines."""
SECTIONS = (
    "dataset|index|clip|descriptions|attention|crops|raw|windows|feature|squares|scores|methods"
    "|layout|runtime|paths"
)
SETTING = re.compile(rf"(?<![\w./-])(?:{SECTIONS})(?:\.[a-z][a-z0-9_-]*)+(?![\w(])")
FILES = {"parquet", "zarr", "md", "json", "yaml", "csv", "py", "html"}
"""How names end that look like settings."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def of(language: str, page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == language]


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if of(language, page)]


@pytest.fixture
def store(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A store with a finished run of the demo, for one test alone."""
    environment, folder = finished_demo(tmp_path_factory), tmp_path / "artifacts"
    shutil.copytree(environment["ABS_ARTIFACTS"], folder)
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, value in {**environment, "ABS_ARTIFACTS": str(folder), "PATH": scripts}.items():
        monkeypatch.setenv(name, value)
    return folder


# --- The README ---------------------------------------------------------------------------------


def test_the_readme_is_one_page() -> None:
    assert len(README.read_text().splitlines()) <= 160


def test_the_first_command_comes_early() -> None:
    assert words_before_code(README) <= 60


# --- Code ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_a_known_language_and_reasons_stand_before_one(page: Path) -> None:
    found = list(blocks(page))
    assert {block.language for block in found} <= LANGUAGES
    assert markers(page) == [block.line - 1 for block in found if block.why_not]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("page", pages_with("sh"), ids=name_of)
def test_commands_run(page: Path, store: Path) -> None:
    for block in of("sh", page):
        for line in block.text.split("\n"):
            if line.strip() and not line.startswith("#"):
                exists(line, block) if block.why_not else runs(line, block)


def runs(line: str, block: Block) -> None:
    """The command of a line ends well."""
    words = shlex.split(line, comments=True)
    if words[0] not in ("abs", "make"):
        done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, (block.where, line, done.stderr)
        return
    commands = [words[1:]] if words[0] == "abs" else abs_of_make(words[1:], block)
    assert commands, (block.where, line, "runs nothing of ours: say why it is not run")
    for command in commands:
        planned = ["--dry-run"] if command[0] == "sweep" and "--dry-run" not in command else []
        done = said(*command, *planned)
        assert done.returncode == 0, (block.where, line, done.stderr)
        assert "Traceback" not in done.stderr, (block.where, line)


def exists(line: str, block: Block) -> None:
    """What a line names is there: a command and its options, a target, a module."""
    words = shlex.split(line, comments=True)
    if words[:2] == ["python", "-m"]:
        assert module_file(words[2]), (block.where, line)
    commands = [words[1:]] if words[0] == "abs" else []
    if words[0] == "make":
        commands = abs_of_make(words[1:], block)
    for command in commands:
        done = said(*command, "--help")
        assert done.returncode == 0, (block.where, line, done.stderr)


def abs_of_make(words: list[str], block: Block) -> list[list[str]]:
    """What `make` would have `abs` do, if everything is installed."""
    names = ("installed", "developer", "documenter", "bin/python")
    made = [word for name in names for word in ("-o", venv(name))]
    plain = ["make", "-n", "--no-print-directory", *made, *words]
    told = subprocess.run(plain, capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0, (block.where, words, told.stderr)
    found = []
    for line in told.stdout.replace("\\\n", " ").split("\n"):
        command = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
        if command and command[0] == venv("bin/abs"):
            found.append(command[1:])
    return found


def venv(name: str) -> str:
    return f".venv/{name}"


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_python_runs(page: Path, store: Path, tmp_path: Path) -> None:
    """All blocks of a page, one after the other, in one process."""
    found = of("python", page)
    for block in found:
        compile(block.text, block.where, "exec")
    text = "\n".join(block.text for block in found if not block.why_not)
    done = run_python(text, ROOT, tmp_path / "output")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_data_is_well_formed(page: Path) -> None:
    for block in of("json", page):
        json.loads(block.text)
    for block in of("yaml", page):
        assert isinstance(yaml.safe_load(block.text), dict), block.where


def test_the_example_of_a_dataset_is_one(tmp_path: Path) -> None:
    (block,) = of("yaml", DOCS / "datasets.md")
    path = tmp_path / "birds.yaml"
    path.write_text(block.text)
    done = said("config", "--dataset", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_example_of_an_experiment_is_one(tmp_path: Path, store: Path) -> None:
    (block,) = of("yaml", DOCS / "studies.md")
    path = tmp_path / "mine.yaml"
    path.write_text(block.text)
    done = said("sweep", path, "--dataset", "demo", "--dry-run")
    assert done.returncode == 0, done.stderr


# --- Links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *OTHERS, ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
        assert DOCS not in page.parents or DOCS in target.parents, f"{link} is not in the site"


def test_the_site_has_every_page() -> None:
    def listed(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for each in entry.values() if isinstance(entry, dict) else entry:
            yield from listed(each) if not isinstance(each, str) else [each]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(listed(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_each_surprise_is_held_by_a_test() -> None:
    rows = [row for row in tables(DOCS / "surprises.md") if row[-1] != "test" and row[1:]]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])
        assert named, row
        for file, name in named:
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), name


def test_every_script_of_findings_is_listed() -> None:
    page, surprises = ROOT / "findings" / "README.md", (DOCS / "surprises.md").read_text()
    listed = [row[0].strip("`") for row in tables(page) if row[0].endswith(".sh`")]
    scripts = {path.name for path in (ROOT / "findings").glob("*.sh")}
    assert sorted(scripts) == listed
    assert set(re.findall(r"`([\w-]+\.sh)`", surprises)) <= scripts


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert set(DOCS.glob("*.md")) <= linked


# --- Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_files_exist(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"(?<![\w./-])(?:pipeline|stages|cfgs|tests|docs)/[\w./-]*", text):
        place = path.rstrip(".")
        assert place in EXAMPLES or (ROOT / place).exists(), path


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_modules_exist(page: Path) -> None:
    for name in re.findall(r"(?<![\w./-])(?:pipeline|stages|tests)(?:\.\w+)+", page.read_text()):
        module, _, attribute = name.rpartition(".")
        assert module_file(name) or hasattr(importlib.import_module(module), attribute), name


def module_file(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def rows_of(page: Path) -> set[str]:
    """The names in backticks that begin the rows of a page's tables."""
    return {name for row in tables(page) for name in re.findall(r"`(?:abs )?([^` ]+)", row[0])}


def test_every_command_target_and_extra_has_its_row() -> None:
    targets = re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {*COMMANDS, *targets, *project["optional-dependencies"]}
    assert names - rows_of(DOCS / "index.md") == {"help"}


def test_every_folder_and_file_of_the_package_has_its_row() -> None:
    found = {*ROOT.glob("pipeline/[a-z]*/*.py"), *ROOT.glob("pipeline/[a-z]*.py")}
    places = {path if path.parent.name == "pipeline" else path.parent for path in found}
    names = {f"{place.relative_to(ROOT)}{'/' if place.is_dir() else ''}" for place in places}
    assert not names - rows_of(DOCS / "developing.md")


def resolved() -> dict[str, Any]:
    """Every setting by its dotted name, with its default."""

    def leaves(values: Any, name: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(values, dict):
            yield name, values
            return
        for inner, below in values.items():
            yield from leaves(below, f"{name}.{inner}" if name else inner)

    found = dict(leaves(json.loads(said("config", "--resolved", "--json").stdout), ""))
    return {**found, "dataset.name": None, "dataset.root": None}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_settings_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = resolved()
    for name in SETTING.findall(page.read_text()):
        if name.startswith(OWN_SETTINGS):
            continue
        is_one = any(each == name or each.startswith(f"{name}.") for each in known)
        assert is_one or name.rpartition(".")[2] in FILES, name


def test_every_setting_is_on_its_page_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ABS_ARTIFACTS", "ABS_DATA", "ABS_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    page, known = DOCS / "settings.md", resolved()
    assert [n for n in known if not n.startswith("descriptions.") and n not in prose(page)] == []
    rows = [row for row in tables(page) if len(row) == 3 and row[0].strip("`") in known]
    assert len(rows) > 50
    for name, default, _ in rows:
        if default:
            assert yaml.safe_load(default.strip("`")) == known[name.strip("`")], name


def test_the_names_of_open_clip_are_listed_as_they_are_served() -> None:
    page = model_names.PAGE.read_text()
    assert page == model_names.written(page), "run `python -m tests.docs.model_names`"
    assert "101 have a ViT; 94 of these" in page
