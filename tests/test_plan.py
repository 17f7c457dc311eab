"""Stages of a run, and the keys among them that a change of settings affects."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets import images
from pipeline.inspect.status import plan
from pipeline.run import Run
from tests.helpers.runs import DEMO, Runner, bytes_of_arrays, make_all

ALL = "scores.methods=null"


def keys(run: Run) -> dict[str, str]:
    return {stage.name: stage.key for stage in run.stages}


LAST = ["scores", "metrics"]
DRAWN = ["crops-raw", "crops-feature", "embeddings-raw", *LAST]
WINDOWS = ["crops-feature", "crops-windows", "embeddings-feature", *LAST]
FEATURE = ["embeddings-feature", *LAST]
CHANGES: dict[str, list[str]] = {
    "crops.seed=1": DRAWN,
    "crops.temperature=0.5": DRAWN,
    "crops.sizes=ratio": DRAWN,
    "crops.k=7": DRAWN,
    "crops.alpha=0.4": [*DRAWN, *WINDOWS],
    "crops.layer=-2": [*DRAWN, *WINDOWS],
    "windows.index=nearest": WINDOWS,
    "windows.view=clip": WINDOWS,
    "windows.k=7": WINDOWS,
    "windows.draws=joint": ["crops-feature", *LAST],
    "raw.prompt=mask": ["embeddings-raw", *LAST],
    "feature.layer=1": FEATURE,
    "feature.prompt=mask": FEATURE,
    "squares.seed=1": ["crops-squares", "embeddings-squares", *LAST],
    "descriptions.waffle.seed=1": ["descriptions-waffle", *LAST],
    "descriptions.cupl.rule=descriptors": ["descriptions-cupl", *LAST],
    "scores.n=3": LAST,
    "scores.m=9": LAST,
    "scores.expectation=true": LAST,
    "scores.temperature=0.5": LAST,
    "scores.classes=present": LAST,
    "methods.wca.n=2": LAST,
    "methods.wca.pool=5": LAST,
    "methods.wca.seed=1": LAST,
    "runtime.batch_size=7": [],
    "runtime.threads=2": [],
    "dataset.duplicates=unique": [],
}
"""The stages whose keys differ after a change, where all windows are embedded."""


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reaches_just_the_stages_it_concerns(run_of: Runner, change: str) -> None:
    before, after = keys(run_of(ALL)), keys(run_of(ALL, change))
    assert set(before) == set(after)
    assert {name for name in after if after[name] != before[name]} == set(CHANGES[change])


@pytest.mark.parametrize(
    "change",
    ["windows.shape=box", "windows.shape=ratio windows.index=exact", "windows.draws=joint"],
)
def test_no_rule_for_windows_touches_the_raw_crops(run_of: Runner, change: str) -> None:
    for encode in ("windows.encode=all", "windows.encode=drawn"):
        before, after = keys(run_of(ALL, encode)), keys(run_of(ALL, encode, change))
        for name in ("attention", "crops-raw", "embeddings-raw"):
            assert after[name] == before[name]
        assert after["crops-feature"] != before["crops-feature"]


def test_where_only_drawn_windows_are_embedded_another_seed_needs_others(run_of: Runner) -> None:
    drawn = run_of(ALL, "windows.encode=drawn")
    assert "crops-windows" not in keys(drawn)
    before, after = keys(drawn), keys(run_of(ALL, "windows.encode=drawn", "crops.seed=1"))
    assert after["embeddings-feature"] != before["embeddings-feature"]
    larger = keys(run_of(ALL, "windows.encode=drawn", "scores.n=9"))
    assert larger["embeddings-feature"] == before["embeddings-feature"]
    assert before["crops-feature"] == keys(run_of(ALL))["crops-feature"]


@pytest.mark.parametrize("name", ["clip-d.json", "words.txt"])
def test_a_text_file_counts_by_its_content(run_of: Runner, tmp_path: Path, name: str) -> None:
    file, field = tmp_path / name, "file" if name.endswith("json") else "words"
    shutil.copy(DEMO / "prompts" / name, file)
    change = f"descriptions.waffle.{field}={file}"
    before = keys(run_of(ALL, change))
    assert before == keys(run_of(ALL))
    file.write_text(file.read_text() + "\n")
    after = keys(run_of(ALL, change))
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"descriptions-waffle", *LAST}


IMAGE = ["index", "descriptions-clip", "embeddings-image", *LAST]
RAW = ["index", "descriptions-cupl", "attention", "crops-raw", "embeddings-raw", *LAST]
NEEDED: dict[str, list[str]] = {
    "scores.methods=[clip]": IMAGE,
    "scores.methods=[waffle]": ["index", "descriptions-waffle", "embeddings-image", *LAST],
    "scores.methods=[wca]": [*IMAGE, "descriptions-cupl", "crops-squares", "embeddings-squares"],
    "scores.methods=[zero]": [*IMAGE, "crops-augmented", "embeddings-augmented"],
    "scores.methods=[abs] scores.feature=false": RAW,
    "scores.methods=[abs]": [*RAW, *WINDOWS],
    "scores.methods=[abs] windows.encode=drawn": [*RAW, "crops-feature", "embeddings-feature"],
    "scores.methods=[abs] scores.raw=false scores.feature=false": [
        "index",
        "descriptions-cupl",
        "embeddings-image",
        *LAST,
    ],
}


@pytest.mark.parametrize("change", NEEDED)
def test_a_plan_holds_what_the_chosen_methods_need(run_of: Runner, change: str) -> None:
    assert set(keys(run_of(change))) == set(NEEDED[change])


# --- What a run will take ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_plan_says_what_units_hold_once_images_are_known_and_later_what_is_written(
    run_of: Runner,
) -> None:
    run = run_of()
    first = {row["stage"]: row for row in plan(run.store, run.stages)}
    assert (first["embeddings-raw"]["todo"], first["embeddings-raw"]["holds"]) == (6, None)
    *others, scores, metrics = run.stages
    run.execute(run.named("index"), [], quiet=True)
    first = {row["stage"]: row for row in plan(run.store, run.stages)}
    sizes = run.store.open(run.named("index")[0]).table("images")
    pixels = (sizes["width"] * sizes["height"]).tolist()
    # 3 images x 2 crops x 80 x 80 pixels, their vectors as made and as stored, three units at once
    each = 3 * 2 * (3 * 80 * 80 + 128 * 6)
    largest = max(sum(pixels[at : at + 3]) for at in range(0, len(pixels), 3)) + max(pixels)
    assert first["embeddings-raw"]["holds"] == 3 * each + 3 * largest
    run.execute(others, [], quiet=True)
    planned = {row["stage"]: row for row in plan(run.store, run.stages)}
    assert {planned[stage.name]["todo"] for stage in others} == {0}
    run.execute([scores, metrics], [], quiet=True)
    assert planned["scores"]["writes"] == bytes_of_arrays(run, "scores")
    grown = run_of("scores.n=7")
    later = {row["stage"]: row for row in plan(grown.store, grown.stages)}
    before = bytes_of_arrays(grown, "embeddings-raw")
    assert later["embeddings-raw"]["todo"] == 6
    make_all(grown)
    written = bytes_of_arrays(grown, "embeddings-raw") - before
    assert later["embeddings-raw"]["writes"] == written > 0


@pytest.mark.parametrize(("held", "block"), [(10**9, 20), (2500, 20), (2500, 3), (0, 7)])
def test_no_more_images_are_open_than_a_plan_says(
    monkeypatch: pytest.MonkeyPatch, held: int, block: int
) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def count(pixels: int) -> None:
        nonlocal now, most
        with lock:
            now += pixels
            most = max(most, now)

    class Decoded:
        def __init__(self, side: int) -> None:
            self.width = self.height = side
            count(side * side)

        def __del__(self) -> None:
            count(-self.width * self.height)

    sides = np.random.default_rng(0).integers(5, 40, 100)
    index = pd.DataFrame({"path": sides.astype(str), "sha256": "", "width": sides, "height": sides})
    monkeypatch.setattr(images, "HELD_PIXELS", held)
    monkeypatch.setattr(images, "read_verified", lambda _, path, __: path)
    monkeypatch.setattr(images, "decode", lambda path: Decoded(int(path)))
    opened = images.Images(None, index)  # type: ignore[arg-type]
    for start in (*range(0, 100, block), 0):
        for _ in range(2):
            for image in opened.block(slice(start, min(start + block, 100))):
                assert image.width
    assert 0 < most * 3 <= images.peak_image_bytes(index, block)
