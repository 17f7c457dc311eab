"""Every stage on a CUDA device without values: what it may not do there, and how much it asks.

The bounds are what the stages ask for today, so that a loop that comes back fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.kernels.kriging import by_mean
from pipeline.kernels.rounds import FIRST
from pipeline.kernels.settling import change_bound
from pipeline.models.clip.model import ClipModel
from pipeline.models.preprocessing import Sent
from pipeline.run import Run
from pipeline.stage import Stage
from pipeline.store.units import Unit
from tests.helpers import shared
from tests.helpers.fake_cuda import Counts, fake_cuda
from tests.helpers.methods import FEW as FEW_VIEWS
from tests.helpers.runs import write_dataset

METHODS = "scores.methods=[clip,clip-e,clip-d,waffle,cupl,wca,abs]"
ALL = ("windows.encode=all", "scores.expectation=true")
FEW = 10_000
"""Bytes that may be sent to the device for an image beside its pixels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a store in which a run is finished on the CPU, also in expectation."""

    def make(folder: Path) -> None:
        write_dataset(folder)
        with pytest.MonkeyPatch.context() as patch:
            for changes in ((), ALL):
                run = run_in(folder, patch, *changes)
                run.execute(run.stages, [], quiet=True)

    return shared.once(tmp_path_factory, "fake-cuda", make)


def run_in(folder: Path, patch: pytest.MonkeyPatch, *changes: str) -> Run:
    patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
    return Run.of(str(folder / "tiny.yaml"), "official", ["scores.n=4", METHODS, *changes])


def asked(stage: Stage, run: Run) -> tuple[Counts, dict[str, Any], Unit]:
    """Compute a unit after another one; return what it asked of the device, and its outputs."""
    unit, *_, other = [*stage.units(run.store)] * 2
    with fake_cuda() as counts:
        worker = stage.worker(run.store)
        worker.disable_reuse()
        worker.compute(other, worker.read(other))
        counts.restart()
        outputs = worker.compute(unit, worker.read(unit))
    return counts, outputs, unit


def pixels(run: Run, unit: Unit) -> int:
    """Bytes of the decoded images of a unit."""
    table = run.store.open(run.named("index")[0]).table("images").iloc[unit.rows]
    return int(3 * (table["width"] * table["height"]).sum())


CASES = [
    ("descriptions-cupl", (), 37),
    ("attention", (), 78),
    ("attention", ("attention.precision=bfloat16",), 87),
    ("attention", ("attention.model=clip",), 90),
    ("attention", ("attention.model=random:3",), 0),
    ("embeddings-image", (), 69),
    ("embeddings-raw", (), 70),
    ("embeddings-raw", ("clip.precision=bfloat16",), 88),
    ("embeddings-raw", ("clip.precision=float16",), 88),
    ("embeddings-squares", (), 70),
    *(
        ("embeddings-raw", (f"raw.prompt={prompt}",), 70)
        for prompt in ("mask", "highlight", "redcircle")
    ),
    *(
        ("embeddings-feature", (f"feature.prompt={prompt}", f"feature.layer={layer}"), launches)
        for prompt, layer, launches in [
            ("crop", -1, 142),
            ("mask", -1, 261),
            ("highlight-fea", -1, 261),
            ("highlight-attn", -1, 255),
            ("crop", 0, 378),
            ("mask", 0, 426),
            ("highlight-fea", 0, 426),
            ("highlight-attn", 0, 426),
            ("crop", 1, 323),
        ]
    ),
    ("embeddings-feature", ("clip.precision=bfloat16",), 159),
    ("embeddings-feature", ("windows.encode=all",), 142),
    ("scores", (), 63),
    ("scores", ("runtime.method_seconds=true",), 63),
    ("scores", ("scores.soft=false",), 25),
    ("scores", ALL, 63),
    ("embeddings-raw", ("scores.settle=0.01",), 125),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes", "launches"), CASES)
def test_a_unit_asks_little_of_the_card(
    name: str,
    changes: tuple[str, ...],
    launches: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_in(folder, monkeypatch, "runtime.device=cuda", *changes)
    (stage,) = run.named(name)
    counts, outputs, unit = asked(stage, run)
    assert counts.launches <= launches, counts.names
    assert counts.waits <= 1
    assert counts.pageable == 0
    if "prompt" not in str(changes):
        images = unit.rows.stop - unit.rows.start
        assert counts.sent <= pixels(run, unit) + FEW * images
    assert outputs


@pytest.mark.parametrize("name", ["embeddings-raw", "embeddings-squares"])
def test_pixels_of_a_block_are_sent_once_for_its_units(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(folder, monkeypatch, "runtime.device=cuda")
    (stage,) = run.named(name)
    first, second, *_, last = stage.units(run.store)
    assert first.rows == second.rows != last.rows
    sent = []
    with fake_cuda() as counts:
        worker = stage.worker(run.store)
        worker.disable_reuse()
        for unit in (last, first, second, last):
            counts.restart()
            worker.compute(unit, worker.read(unit))
            sent.append(counts.sent)
    images = first.rows.stop - first.rows.start
    assert sent[2] <= FEW * images < pixels(run, first) <= sent[1]
    assert sent[3] >= pixels(run, last)


def test_pixels_leave_the_device_with_their_image(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (Image.new("RGB", (side, side)) for side in (10, 20))
    monkeypatch.setattr("pipeline.models.preprocessing.HELD", 3 * 20 * 20)
    with fake_cuda():
        sent = Sent(torch.device("cuda"))
        assert sent.planes(small) is sent.planes(small)
        assert sent.planes(large) is not sent.planes(large)
        del small
        assert sent.planes(large) is sent.planes(large)


def test_seconds_of_methods_are_read_after_the_one_wait(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(folder, monkeypatch, "runtime.device=cuda", "runtime.method_seconds=true")
    (stage,) = run.named("scores")
    first, second, *_ = stage.units(run.store)
    with fake_cuda() as counts:
        worker = stage.worker(run.store)
        counts.restart()
        seconds = []
        for unit in (first, second):
            worker.compute(unit, worker.read(unit))
            seconds.append(worker.by_method())
    assert counts.waits == 2
    methods = METHODS.partition("[")[2].rstrip("]").split(",")
    assert seconds == [dict.fromkeys(methods, 0.002), dict.fromkeys(methods, 0.001)]


def test_views_that_are_stored_ask_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of equal views, as if the card had made them."""
    plain = run_in(folder, monkeypatch)
    (stage,) = plain.named("embeddings-raw")
    unit, *_ = stage.units(plain.store)
    stored = plain.store.open(stage).array("embeddings")[unit.rows, unit.crops]
    here = stage.worker(plain.store).environment()
    monkeypatch.setattr(ClipModel, "environment", here)
    run = run_in(folder, monkeypatch, "runtime.device=cuda")
    (stage,) = run.named("embeddings-raw")
    with fake_cuda() as counts:
        worker = stage.worker(run.store)
        counts.restart()
        outputs = worker.compute(unit, worker.read(unit))
    assert counts == Counts()
    assert np.array_equal(outputs["embeddings"], stored)


@pytest.mark.slow
def test_methods_of_other_papers_read_no_value_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that go on until a value says so, and those over a stream, do read some."""
    write_dataset(tmp_path)
    changes = ("scores.methods=[zero,mta,zero-crops,mta-crops,bifta-views,rated-texts]", *FEW_VIEWS)
    run = run_in(tmp_path, monkeypatch, *changes)
    run.execute(run.stages, [], quiet=True)
    run = run_in(tmp_path, monkeypatch, "runtime.device=cuda", *changes)
    counts, outputs, _ = asked(run.named("scores")[0], run)
    assert counts.waits == 1
    assert outputs


def test_a_look_whether_images_have_settled_waits_for_its_tails_and_its_bounds() -> None:
    prediction = by_mean(3, 2 * FIRST, 1 / 60)
    with fake_cuda() as counts:
        scores, others = torch.ones(3, 2 * FIRST, 5), torch.ones(3, 5)
        change_bound(scores.to("cuda"), others.to("cuda"), 60, prediction)
    assert counts.waits == 2
    assert counts.launches <= 40


def test_the_device_refuses_what_a_card_refuses() -> None:
    with fake_cuda() as counts:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        counts.restart()
        with pytest.raises(RuntimeError, match="host and of the device"):
            there + here
        with pytest.raises(RuntimeError, match="host and of the device"):
            there[torch.tensor([0, 2])]


@pytest.mark.parametrize("read", [torch.Tensor.item, torch.nonzero, torch.unique, bool])
def test_values_cannot_be_read_one_by_one(read: Any) -> None:
    with fake_cuda(), pytest.raises(Exception, match="aten"):
        read(torch.ones(1, device="cuda"))


def test_what_the_device_is_asked_for_is_counted() -> None:
    with fake_cuda() as counts:
        sent = torch.ones(5, 3).to("cuda")
        torch.ones(2).pin_memory().to("cuda", non_blocking=True)
        product = sent @ sent.T.reshape(3, 5)
        product.view(25).add_(1)
        back = product.cpu()
    assert counts.names == {"mm": 1, "add_": 1}
    assert counts == Counts(2, 1, 15 * 4 + 2 * 4, 1, counts.names)
    assert back.tolist() == [[0.0] * 5] * 5
