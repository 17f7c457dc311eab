"""Progress of a stage in one line."""

from __future__ import annotations

import pytest

from pipeline.core.progress import Meter


def test_progress_tells_units_and_workers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter("embeddings-raw", 40, "crops", units=4)
    monkeypatch.setattr("pipeline.core.progress.time.perf_counter", lambda: meter.started + 2.0)
    meter.add(10, "a")
    meter.add(20, "b")
    told = "2 of 4 units, 30 of 40 crops, 15.0/s (2 workers: 5.0, 10.0), 0:00:01 left"
    assert meter.text() == told
    for number in range(5):
        meter.add(1, f"c{number}")
    assert "(7 workers: 0.5 to 10.0 each)" in meter.text()
