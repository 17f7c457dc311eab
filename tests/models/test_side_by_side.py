"""Batches in threads of their own: results in order, and threads of torch as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.core.under_way import heard
from pipeline.models.side_by_side import AT_ONCE, side_by_side
from tests.models.test_precision import loaded, noise

BATCHES = torch.arange(12).split(2)


@pytest.fixture(params=[1, 2, 3, 6, 16])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Give torch some threads, which the machine need not have."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_order_and_all_threads_have_work(threads: int) -> None:
    shares = []

    def doubled(batch: Tensor) -> Tensor:
        shares.append(torch.get_num_threads())
        assert torch.is_inference_mode_enabled()
        return 2 * batch

    with torch.inference_mode():
        results = side_by_side(doubled, BATCHES, alone=False)
    assert torch.equal(torch.cat(results), 2 * torch.arange(12))
    assert torch.get_num_threads() == threads
    (share,) = set(shares)
    assert share * AT_ONCE >= threads >= share


def test_batches_run_at_once() -> None:
    before, both = torch.get_num_threads(), threading.Barrier(2, timeout=60)
    torch.set_num_threads(2)
    try:
        found = side_by_side(lambda batch: torch.tensor(both.wait()), BATCHES[:2], alone=False)
    finally:
        torch.set_num_threads(before)
    assert {int(place) for place in found} == {0, 1}


def test_a_single_batch_has_all_threads_unless_it_must_be_like_one_of_many(threads: int) -> None:
    def asked(alone: bool) -> int:
        (count,) = side_by_side(
            lambda batch: torch.tensor(torch.get_num_threads()), BATCHES[:1], alone
        )
        return int(count)

    assert asked(alone=True) == threads
    assert asked(alone=False) == -(-threads // AT_ONCE)


def test_an_error_ends_it_and_leaves_torch_its_threads(threads: int) -> None:
    begun = []

    def failing(batch: Tensor) -> Tensor:
        begun.append(int(batch[0]))
        raise ValueError("a batch")

    with pytest.raises(ValueError, match="a batch"):
        side_by_side(failing, BATCHES, alone=False)
    assert torch.get_num_threads() == threads


def test_progress_is_told_after_each_batch(threads: int) -> None:
    told: list[float] = []
    with heard(told.append):
        side_by_side(lambda batch: batch, BATCHES, alone=False)
    assert told == pytest.approx([(i + 1) / 6 for i in range(6)])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_vectors_are_those_of_one_batch_after_another(tmp_path: Path, precision: str) -> None:
    clip, images, before = loaded(tmp_path, precision), noise(40), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = clip.encode_images(images, full=True)
        torch.set_num_threads(2)
        assert torch.equal(clip.encode_images(images, full=True), expected)
    finally:
        torch.set_num_threads(before)
