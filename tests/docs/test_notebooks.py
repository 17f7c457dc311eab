"""The notebooks run from their first cell to the last, and are stored without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.demo import finished_demo
from tests.helpers.forked import run_python
from tests.helpers.runs import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            compile("".join(cell["source"]), path.name, "exec")


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs(
    path: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All its code, in one process; the demo's run is found finished."""
    for name, value in finished_demo(tmp_path_factory).items():
        monkeypatch.setenv(name, value)
    cells = json.loads(path.read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    told = "\nprint(made.source['images'], sum(o.computed for o in outcomes))"
    done = run_python(code + told, ROOT, tmp_path / "output")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("} 0")
