"""Seconds of parts, by a clock that the test moves."""

from __future__ import annotations

import time

import pytest
import torch

from pipeline.models.stopwatch import Stopwatch


def test_parts_of_one_name_add_up_until_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Stopwatch(torch.device("cpu"))
    for name, seconds in [("a", 1.0), ("b", 2.0), ("a", 4.0)]:
        with watch.part(name):
            now[0] += seconds
        now[0] += 100.0
    assert watch.take() == {"a": 5.0, "b": 2.0}
    assert watch.take() == {}


def test_a_device_that_the_host_runs_ahead_of_is_not_measured() -> None:
    watch = Stopwatch(torch.device("mps"))
    with watch.part("a"):
        pass
    assert watch.take() == {}


def test_a_part_that_fails_is_none() -> None:
    watch = Stopwatch(torch.device("cpu"))
    with pytest.raises(KeyError), watch.part("a"):
        raise KeyError
    assert watch.take() == {}
