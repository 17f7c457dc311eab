"""The crop explorer of towers fetched by name, and of imported results."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipeline.datasets.classes import Classes
from pipeline.report.choice import Choice
from pipeline.report.stored import find_run
from pipeline.report.write import write_report
from pipeline.run import Run
from pipeline.studies.imports import import_scores
from tests.helpers import small_models
from tests.helpers.runs import Runner, make_all, write_dataset
from tests.report.test_pages import Parsed, data_of

pytestmark = pytest.mark.slow


def _quiet(line: str) -> None:
    pass


# --- Towers that were fetched by name ---------------------------------------------------------


@pytest.fixture(params=["shortest", "squash"])
def fetched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, str]:
    """A finished run with a CLIP of the hub of 4 x 4 tokens, and how it makes images square."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    small_models.write_clip(tmp_path / "model", 32, 8, resize_mode=request.param)
    small_models.write_repository(tmp_path / "model", tmp_path / "cache", "owner/tiny-clip")
    dataset = write_dataset(tmp_path, images=2)
    settings = ["clip.model=hf-hub:owner/tiny-clip", "scores.n=4", "scores.methods=[clip,cupl,abs]"]
    run = Run.of(str(dataset), "official", settings)
    make_all(run)
    return run, request.param


def test_windows_of_a_tower_of_the_hub_lie_where_it_looks(
    fetched: tuple[Run, str], tmp_path: Path
) -> None:
    mode = fetched[1]
    write_report(
        find_run("tiny", place=tmp_path / "store"), tmp_path / "report", Choice(), say=_quiet
    )
    page = data_of(tmp_path / "report", "crops.html")
    assert (page["tokens"], page["mode"]) == (4, mode)
    assert page["entries"]
    for entry in page["entries"]:
        width, height, seen = entry["width"], entry["height"], entry["seen"]
        short = min(width, height)
        expected = {
            "shortest": [(side + sign * short) / 2 for sign in (-1, 1) for side in (width, height)],
            "squash": [0, 0, width, height],
        }[mode]
        assert seen == pytest.approx(expected, abs=0.04 * short)
        windows = entry["branches"]["feature"]["crops"]
        assert windows
        assert all(crop["space"] == "tokens" for crop in windows)
        assert all(0 <= end <= 4 for crop in windows for end in crop["box"])
    # Where the tower is not known any more, windows are listed, and what it sees is not guessed.
    shutil.rmtree(tmp_path / "cache")
    shutil.copytree(tmp_path / "store" / "tiny", tmp_path / "copy" / "tiny")
    write_report(
        find_run("tiny", place=tmp_path / "copy"), tmp_path / "report", Choice(), say=_quiet
    )
    page = data_of(tmp_path / "report", "crops.html")
    assert page["tokens"] is None
    for entry in page["entries"]:
        assert entry["seen"] is None
        assert entry["branches"]["feature"]["crops"]


# --- Imported results ---------------------------------------------------------------------------


def test_imported_results_are_marked_on_both_pages(
    made: Run, run_of: Runner, tmp_path: Path
) -> None:
    index = made.named("index")[0]
    images = made.store.open(index).table("images")["image_id"]
    names = made.store.open(made.named("scores")[0]).table("classes")["name"]
    file = tmp_path / "theirs.csv"
    file.write_text("image_id,pred\n" + "".join(f"{i},{names[1]}\n" for i in images))
    source = "<b>theirs</b> 1.0"
    classes = Classes(tuple(names), tuple((name,) for name in names), (True,) * len(names))
    import_scores(file, made.store.folder, "theirs", source, images, classes)
    run = run_of('scores.methods=[clip,cupl,abs,"imported:theirs"]')
    run.execute(run.stages, [], quiet=True)
    found = find_run(
        "tiny",
        overrides=['scores.methods=[clip,cupl,abs,"imported:theirs"]'],
        place=made.store.root,
    )
    write_report(found, tmp_path / "report", Choice(), ("imported:theirs", None), _quiet)
    text = " ".join(Parsed((tmp_path / "report" / "index.html").read_text()).text.split())
    assert re.search(r"Top-1 of theirs \(imported\) ?50\.00", text)
    assert f"Not computed here but imported: theirs (imported), from {source}." in text
    page = data_of(tmp_path / "report", "crops.html")
    assert page["methods"]["imported:theirs"] == "theirs (imported)"
    for entry in page["entries"]:
        assert "does not explain its scores: they are imported" in entry["unexplained"]
        assert set(entry["scores"]) == {"clip", "cupl", "abs", "imported:theirs"}
