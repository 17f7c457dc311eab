"""`abs bench` and its files: one for each group of comparisons."""

from __future__ import annotations

from pathlib import Path

from pipeline.bench.main import PARTS, Part
from pipeline.bench.parts import cached


def test_a_comparison_lies_in_the_file_of_its_name() -> None:
    files = {path.stem for path in Path(cached.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(Part)
    assert {part: rows.__module__ for part, rows in PARTS.items()} == {
        part: f"pipeline.bench.parts.{part}" for part in Part
    }
