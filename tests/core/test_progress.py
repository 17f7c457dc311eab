"""Progress of a stage in one line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from pipeline.core.errors import ConfigError
from pipeline.core.progress import Meter, Reporter, logged
from pipeline.core.under_way import UnderWay


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


def test_the_live_line_moves_within_a_unit_and_fits_any_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter = Meter("embeddings-feature", 51_200, "crops", 4, "11/12", foreseen=100.0, later=30.0)
    now = meter.started + 2
    monkeypatch.setattr("pipeline.core.progress.time.perf_counter", lambda: now)
    head = "11/12 embeddings-feature 0/51,200 crops"
    assert meter.line(90) == f"{head} 0:00:02, 0:01:38 left (run 0:02:08)"
    now = meter.started + 3
    assert meter.line(90) == f"{head} 0:00:03, 0:01:37 left (run 0:02:07)"
    now = meter.started + 10
    meter.add(25_600)
    assert "0:00:10, 0:00:10 left (run 0:00:40)" in meter.line(90)
    now = meter.started + 12
    assert "0:00:12, 0:00:08 left (run 0:00:38)" in meter.line(90)  # no unit since
    assert all(len(meter.line(width)) <= width for width in range(24, 90))


def test_items_of_units_under_way_count(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = UnderWay()
    meter = Meter("embeddings-raw", 400, "crops", 2, foreseen=100.0, under_way=under_way)
    now = meter.started
    monkeypatch.setattr("pipeline.core.progress.time.perf_counter", lambda: now)
    monkeypatch.setattr("pipeline.core.under_way.time.perf_counter", lambda: now)
    under_way.begin("0", 200)
    under_way.tell("0", "read", 0.3)
    assert meter.line(90) == "embeddings-raw 0/400 crops reading 30% 0:00:00, 0:01:40 left"
    now = meter.started + 30
    under_way.tell("0", "compute", 0.0)
    assert "0/400 crops 0:00:30, 0:01:10 left" in meter.line(90)
    now = meter.started + 32
    under_way.tell("0", "compute", 0.1)
    # 10 a second since the first unit was computed, not what it had to wait for
    assert "20/400 crops 0:00:32, 0:00:38 left" in meter.line(90)
    assert "0 of 2 units, 20 of 400 crops" in meter.text()
    under_way.end("0")
    now = meter.started + 40
    meter.add(200)
    under_way.begin("1", 200)
    under_way.tell("1", "compute", 0.5)
    assert "300/400 crops 0:00:40, 0:00:14 left" in meter.line(90)


def test_a_log_file_keeps_all_lines_also_of_a_quiet_run(tmp_path: Path) -> None:
    with logged(str(tmp_path / "log")):
        Reporter(quiet=True).say("a line")
    Reporter(quiet=True).say("another")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line[20:] == "a line"
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        logged("/nowhere/x"),
    ):
        pass


def test_a_terminal_is_never_silent_while_a_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    reporter = Reporter()
    reporter.console = console
    reporter.expect(["index", "attention"], {"index": 1.0, "attention": 4.0})
    with reporter.busy("attention: loading ViT"):
        pass
    with reporter.stage("index", 8, "images", 1) as advance:
        advance(8)
    shown = Text.from_ansi(screen.getvalue()).plain
    assert "attention: loading ViT 0:00:0" in shown
    assert "1/2 index " in shown
