"""What a user sees on a real terminal while a stage runs, and what a file receives instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.forked import ended, start_abs
from tests.helpers.terminal import SLOW, on_a_terminal

RUN = "run", "--to", "attention", "-s", "layout.images=4", "-s", "runtime.batch_size=1"


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("engine", [(), ("--workers", "2")], ids=["here", "workers"])
def test_the_live_line_counts_images_within_units_wherever_they_are_computed(
    tiny: Path, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    workers_find_it = f"import os\nos.environ['PYTHONPATH'] = {str(tmp_path)!r}\n"
    first = workers_find_it + SLOW
    shown = on_a_terminal(*RUN, "-d", tiny, *engine, folder=tmp_path, first=first)
    counts = {int(count) for count in re.findall(r"2/2 attention (\d)/8 images", shown)}
    assert counts - {0, 4, 8}, shown
    assert "attention: loading " in shown
    live = [line for line in re.split(r"[\r\n]", shown) if "2/2 attention" in line]
    assert max(map(len, live)) < 80


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_file_receives_whole_lines_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    output = tmp_path / "output"
    done = ended(start_abs(*RUN, "-d", tiny, "--workers", "1", output=output), output)
    assert done.returncode == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stderr)
    assert "attention: done, 2 of 2 units" in done.stderr
