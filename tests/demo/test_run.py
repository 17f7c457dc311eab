"""Runs of the demo as a user starts them, and what they are to reach.

On a few of the demo's images, which are found first where `ABS_DATA` has them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.helpers.demo import EACH, finished_demo
from tests.helpers.runs import DEMO, said

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

CHANCE = 1 / 24
METHODS = ["clip", "clip-e", "clip-d", "waffle", "cupl", "wca", "abs"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the store that `abs run --dataset demo` made."""
    places = finished_demo(tmp_path_factory)
    folder = tmp_path_factory.mktemp("demo") / "artifacts"
    shutil.copytree(places["ABS_ARTIFACTS"], folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**places, "ABS_ARTIFACTS": str(folder)}.items():
            patch.setenv(name, value)
        yield folder


def run_json(*words: str) -> Any:
    return json.loads(said(*words, "--dataset", "demo", "--json").stdout)


def test_a_second_run_computes_nothing_and_says_so(store: Path) -> None:
    done = said("run", "--dataset", "demo")
    assert "Nothing to do: every stage is finished (up to 20 files" in done.stdout
    assert done.stderr.count("cached") == 17


def test_another_temperature_computes_scores_and_metrics_only(store: Path) -> None:
    done = run_json("run", "--set", "scores.temperature=0.05")
    computed = [stage["stage"] for stage in done["stages"] if stage["state"] == "computed"]
    assert computed == ["scores", "metrics"]


def test_the_demo_reaches_what_it_promises(store: Path) -> None:
    rows = {row["method"]: row for row in run_json("run")["results"]}
    assert list(rows) == METHODS
    clip, cupl = rows["clip"]["top1"], rows["cupl"]["top1"]
    images = rows["clip"]["images"]
    assert images == 24 * EACH
    assert clip >= 5 * CHANCE
    error = ((clip * (1 - clip) + cupl * (1 - cupl)) / images) ** 0.5
    assert cupl - clip > 5 * error
    described = min(rows[name]["top1"] for name in ("clip-d", "cupl", "wca", "abs"))
    undescribed = max(rows[name]["top1"] for name in ("clip", "clip-e", "waffle"))
    assert described > undescribed


def test_attention_lies_on_the_object(store: Path) -> None:
    """The top-K patches are on the bird at least twice as often as any patch is."""
    import zarr

    index = Path(said("path", "index", "--dataset", "demo").stdout.strip())
    maps = Path(said("path", "attention", "--dataset", "demo").stdout.strip())
    images = pd.read_parquet(index / "images.parquet")
    attention = np.asarray(zarr.open_array(maps / "attention.zarr", mode="r")[:, -1])
    grid = attention.shape[-1]
    hits, areas = [], []
    for path, patches in zip(images["path"], attention.reshape(len(images), -1), strict=True):
        with Image.open((DEMO / "masks" / path).with_suffix(".png")) as mask:
            share = mask.convert("L").resize((grid, grid), Image.Resampling.BOX)
        on_object = np.asarray(share, dtype=float).ravel() / 255
        hits.append(on_object[np.argsort(-patches)[:20]].mean())
        areas.append(on_object.mean())
    assert np.mean(hits) >= 2 * np.mean(areas)
