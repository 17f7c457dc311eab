"""`make gpu` without a card: it says so; and its parts, run on the CPU with small models."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch._utils import _get_device_index

from pipeline.bench import case, gpu
from pipeline.bench.case import Case
from pipeline.bench.gpu import Bench, Line
from pipeline.bench.small import IMAGES
from tests.helpers.small_models import clip_of_words

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
    images = Case.of(tmp_path, IMAGES, 3)
    return Bench(images, torch.device("cpu"), SETTINGS, (SMALL,), crops=20, side=64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(IMAGES) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpu: torch ")
    assert "finds no CUDA device" in said
    assert said.count("\n") == 1


def test_the_card_has_a_number_which_limits_of_memory_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device without one is refused by `torch.cuda.set_per_process_memory_fraction`."""
    benches = []

    def no_lines(bench: Bench, parts: object) -> list[Line]:
        benches.append(bench)
        return []

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "lines_of", no_lines)
    monkeypatch.setattr(gpu, "machine", dict)
    assert gpu.main(IMAGES) == 0
    assert _get_device_index(benches[0].device) == 0


@pytest.mark.slow
def test_every_part_but_that_of_memory_runs_on_a_cpu(bench: Bench) -> None:
    parts = gpu.parts_of(bench)
    del parts["out of memory"], parts["the plain path"]
    lines = [line for name, part in parts.items() for line in gpu.outcome(bench, name, part)]
    assert not [line for line in lines if line.right is False]
    assert sum(line.right is True for line in lines) == 9
    assert sum(line.right is None for line in lines) == 3


@pytest.mark.slow
def test_the_plain_path_runs_on_a_cpu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", clip_of_words())
    for name, value in (("CLIP", "small"), ("VIT", "vit_tiny_patch16_224"), ("N", 2)):
        monkeypatch.setattr(case, name, value)
    (line,) = gpu.outcome(replace(bench, few=2), "plain", gpu.plain_path)
    assert "images/s, N = 2" in line.result


def right(bench: Bench) -> Iterator[Line]:
    yield Line("right", "0 differing bytes", True)


def fails(bench: Bench) -> Iterator[Line]:
    yield from right(bench)
    raise RuntimeError("no such instruction\nand more")


def dies(bench: Bench) -> Iterator[Line]:
    os._exit(139)


def never_ends(bench: Bench) -> Iterator[Line]:
    threading.Event().wait()
    yield from right(bench)


@pytest.mark.slow
def test_a_part_that_fails_dies_or_does_not_end_is_a_line(bench: Bench) -> None:
    parts: dict[str, gpu.Part] = {"one": fails, "two": dies, "three": right}
    table = gpu.markdown(list(gpu.lines_of(bench, parts)))
    assert "| one | failed: no such instruction | FAILED |" in table
    assert "| two | failed: its process died | FAILED |" in table
    assert table.count("| right | 0 differing bytes | passed |") == 2
    short = replace(bench, seconds=0.5, begun=time.monotonic())
    ended, left_out = gpu.lines_of(short, {"four": never_ends, "five": right})
    assert ended == Line("four", "ended: time is up", False)
    assert left_out == Line("five", "not run: time is up", False)


def test_operations_are_those_of_all_products() -> None:
    """Products of a block, of attention, of patches and of the projection, written out."""
    model = open_clip.create_model("ViT-S-32-alt").eval()
    width, layers, tokens, patch, dim = 384, 12, 50, 32, 256
    block = 12 * width**2 * tokens + 2 * tokens**2 * width
    products = layers * block + 3 * patch**2 * width * (tokens - 1) + width * dim
    image = torch.zeros(1, 3, 224, 224)
    assert gpu.operations_of(model, image) == 2 * products


@pytest.mark.slow
def test_crops_that_differ_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gpu.resize._by_products
    monkeypatch.setattr(gpu.resize, "_by_products", lambda *given: whole(*given) ^ 1)
    *right, wrong = gpu.crops_are_pillows(bench)
    assert [line.right for line in right] == [True, True]
    assert wrong.right is False
