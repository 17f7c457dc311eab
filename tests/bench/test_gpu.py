"""`make gpu` without a card: it says so; and its parts, run on the CPU with small models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.bench import gpu
from pipeline.bench.case import Case
from pipeline.bench.gpu import Bench, Line
from pipeline.bench.small import IMAGES

SMALL = "local-dir:pipeline/demo/models/clip"
SETTINGS = (
    "clip.weights=null",
    "attention.model=local-dir:pipeline/demo/models/attention",
    "attention.weights=null",
    "scores.n=2",
    "layout.crops=2",
)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("ABS_ARTIFACTS", "")
    case = Case.of(tmp_path, IMAGES, 3)
    return Bench(case, torch.device("cpu"), SETTINGS, (SMALL,), crops=20, side=64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("gpu: torch ")
    assert "finds no CUDA device" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_every_part_but_that_of_memory_runs_on_a_cpu(bench: Bench) -> None:
    parts = gpu.parts_of(bench)
    del parts["out of memory"]
    lines = list(gpu.lines_of(bench, parts))
    assert not [line for line in lines if line.right is False]
    assert sum(line.right is True for line in lines) == 9
    assert sum(line.right is None for line in lines) == 3


def test_a_part_that_fails_is_a_line_and_the_next_one_runs(bench: Bench) -> None:
    def fails(bench: Bench) -> None:
        raise RuntimeError("no such instruction\nand more")

    parts = {"one": fails, "two": lambda bench: iter([Line("two", "0 differing bytes", True)])}
    table = gpu.markdown(list(gpu.lines_of(bench, parts)))  # type: ignore[arg-type]
    assert "| one | failed: no such instruction | FAILED |" in table
    assert "| two | 0 differing bytes | passed |" in table


@pytest.mark.slow
def test_crops_that_differ_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gpu.resize._by_products
    monkeypatch.setattr(gpu.resize, "_by_products", lambda *given: whole(*given) ^ 1)
    *right, wrong = gpu.crops_are_pillows(bench)
    assert [line.right for line in right] == [True, True]
    assert wrong.right is False
