"""Whatever is asked for, the answer is a result or one line."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.commands import Run
from tests.fuzz import command_line, fault


@pytest.mark.parametrize("seed", range(5))
def test_no_command_line_ends_in_a_traceback(
    made: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("pipeline.runner.run_stage", refused)
    monkeypatch.setattr("pipeline.settings.CFGS", tmp_path)  # where `init` would write
    rng = random.Random(seed)
    for _ in range(40):
        words = command_line(rng, tiny, tmp_path)
        assert not (wrong := fault(words)), f"abs {words}: {wrong}"


def refused(*_: object) -> None:
    """Stands in for the work: what matters here comes before it."""
    raise KeyError("run_stage")
