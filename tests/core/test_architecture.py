"""The order of the modules: imports lead down from floor to floor, never up, never in a circle.

Imports inside functions and those for type checkers count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from tests.helpers.runs import ROOT

FLOORS = (
    *("core", "kernels", "store", "stage", "options"),
    *("datasets", "texts", "describe", "models", "methods", "views", "explain", "load"),
    *("engine", "inspect", "stages", "settings", "plan", "run", "classifier"),
    *("first_steps", "studies", "figures", "report", "cli", "bench"),
    *("demo", "__main__"),
)
"""Rooms from the ground up: a folder, or a file that lies flat. One may import those before it."""

HEIGHT = {"": 0} | {name: height for height, name in enumerate(FLOORS)}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")]
}
"""Every module of the project, and where it is."""


def imported(module: str) -> set[str]:
    """Modules of the project that one imports, with the packages that are run on the way."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: write imports in full"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in found]
    above = {".".join(each[:count]) for each in parts for count in range(1, len(each) + 1)}
    return (above & set(FILES)) - {module}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Modules of the project that each one imports."""
    return {module: imported(module) for module in FILES}


def height(module: str) -> int:
    """The floor of a module: that of the first name below `pipeline`, or of `stages`."""
    return HEIGHT[module.removeprefix("pipeline").strip(".").partition(".")[0]]


def test_no_modules_import_each_other_in_a_circle(imports: dict[str, set[str]]) -> None:
    inner = {module: targets - own_packages(module) for module, targets in imports.items()}
    assert set(TopologicalSorter(inner).static_order()) == set(FILES)


def own_packages(module: str) -> set[str]:
    """The packages that a module lies in, which are imported before it whatever it imports."""
    parts = module.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def test_imports_lead_down(imports: dict[str, set[str]]) -> None:
    upward = {
        module: up
        for module, targets in imports.items()
        if (up := {name for name in targets if height(name) > height(module)})
    }
    assert not upward


def test_no_stage_imports_a_stage(imports: dict[str, set[str]]) -> None:
    found = {
        module: others
        for module, targets in imports.items()
        if module.startswith("stages.")
        and (others := {name for name in targets if name.startswith("stages.")})
    }
    assert not found


def test_few_files_lie_flat() -> None:
    assert len(list(ROOT.glob("pipeline/*.py"))) <= 10


@pytest.mark.subprocess
def test_the_command_line_waits_with_what_is_slow_to_import() -> None:
    code = "import sys, pipeline.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split() if name != "stages"}
    assert not loaded & {"stages", "torch", "pandas", "dask", "numba"}
