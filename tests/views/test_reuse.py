"""Reuse of stored views: embeddings of other settings are reused, and no byte differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.core.progress import Reporter
from pipeline.models.clip.model import ClipModel
from pipeline.run import Run
from pipeline.studies.experiments import Experiment, Grid
from pipeline.studies.sharing import crops_to_embed
from pipeline.studies.sweeps import Sweep
from pipeline.views.config import BOX, WINDOW
from pipeline.views.requested import RequestedViews
from tests.helpers.runs import Runner, make_all

SETTINGS = ("crops.alpha=0.3", "crops.k=5")
EMBEDDED = ("embeddings-raw", "embeddings-feature")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many views CLIP was shown, by stage."""
    counts = dict.fromkeys(EMBEDDED, 0)
    whole, windows = ClipModel.encode_images, ClipModel.encode_windows

    def encode_images(self: ClipModel, images: Any, full: bool = False) -> Any:
        counts["embeddings-raw"] += len(images) if full else 0
        return whole(self, images, full)

    def encode_windows(self: ClipModel, tokens: Any, rows: Any, *more: Any) -> Any:
        counts["embeddings-feature"] += len(rows)
        return windows(self, tokens, rows, *more)

    monkeypatch.setattr(ClipModel, "encode_images", encode_images)
    monkeypatch.setattr(ClipModel, "encode_windows", encode_windows)
    return counts


@pytest.fixture
def fewer(tiny: Path) -> None:
    """Half the images: a unit of three and one of one."""
    for folder in (tiny.parent / "images").iterdir():
        for image in sorted(folder.iterdir())[2:]:
            image.unlink()


def views_of(run: Run, name: str) -> pd.DataFrame:
    """Unit, image and place of each view of a stage of embeddings."""
    (stage,) = run.named(name)
    columns = BOX if name == "embeddings-raw" else WINDOW
    table = run.store.open(stage.views).table("crops")  # type: ignore[attr-defined]
    block = stage.views.shape(run.store)[1]  # type: ignore[attr-defined]
    return table.assign(block=table["crop"] // block)[["block", "image", *columns]]


def draw(run: Run) -> None:
    """As far as crops."""
    run.execute([s for s in run.stages if s.kind in ("index", "attention", "crops")], [], True)


def planned_of(runs: list[Run], name: str) -> int | None:
    return crops_to_embed(runs[0].store, [run.named(name)[0] for run in runs])


def distinct(tables: list[pd.DataFrame]) -> int:
    return len(pd.concat(tables).drop_duplicates())


@pytest.mark.slow
@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize("encode", ["all", "drawn"])
def test_a_run_after_others_has_the_bytes_of_a_run_alone(
    run_of: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoded: dict[str, int],
    encode: str,
) -> None:
    """Every distinct view is embedded once in all runs, as planned; stored bytes are equal."""
    common = ("scores.n=6", f"windows.encode={encode}", "windows.k=null")
    changes = [(), *((each,) for each in SETTINGS)]
    runs = [run_of(*common, *each) for each in changes]
    digests = []
    for run in runs:
        draw(run)
    planned = {name: planned_of(runs, name) for name in EMBEDDED}
    for run in runs:
        digests.append(make_all(run))
    assert encoded == planned
    for name in EMBEDDED:
        tables = [views_of(run, name) for run in runs]
        assert planned[name] == distinct(tables) < sum(map(len, tables))
        assert planned_of(runs, name) == 0
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "alone"))
    assert make_all(run_of(*common, *changes[-1])) == digests[-1]


@pytest.mark.slow
def test_views_of_unfinished_artifacts_are_reused_as_planned(
    run_of: Runner, encoded: dict[str, int]
) -> None:
    """More crops were drawn than were embedded, and than are requested."""
    make_all(run_of("scores.n=2"))
    draw(run_of("scores.n=8"))
    draw(run_of("scores.n=8", "crops.alpha=0.4"))
    before, other = encoded["embeddings-raw"], run_of("scores.n=4", "crops.alpha=0.4")
    planned = planned_of([other], "embeddings-raw")
    make_all(other)
    assert encoded["embeddings-raw"] - before == planned
    more = run_of("scores.n=4")
    table = views_of(more, "embeddings-raw")
    block = distinct([table[table["block"] == 1]])
    planned = planned_of([more], "embeddings-raw")
    assert planned is not None
    assert 0 < planned < block


@pytest.mark.slow
def test_finished_units_of_an_unfinished_artifact_are_reused(
    run_of: Runner, made: Run, encoded: dict[str, int]
) -> None:
    first, second = run_of(), run_of("crops.alpha=0.4")
    draw(second)
    artifact = first.store.artifact(first.named("embeddings-raw")[0])
    (artifact.path / "manifest.json").unlink()
    artifact.ledger.forget(["00000-001"])
    before, planned = encoded["embeddings-raw"], planned_of([second], "embeddings-raw")
    make_all(second)
    assert encoded["embeddings-raw"] - before == planned
    views = views_of(second, "embeddings-raw")
    assert planned is not None
    assert planned < distinct([views])


@pytest.mark.slow
@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize("blocks", [(2, 4), (4, 2)])
def test_blocks_of_another_size_are_not_mistaken(
    run_of: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, int]
) -> None:
    common = ("scores.n=8", "windows.encode=drawn")
    for block in blocks:
        made = make_all(run_of(*common, f"layout.crops={block}"))
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "alone"))
    assert make_all(run_of(*common, f"layout.crops={blocks[1]}")) == made


@pytest.mark.slow
def test_searching_for_stored_views_changes_no_other_artifact(run_of: Runner, made: Run) -> None:
    """Embeddings of four crops, whose table of crops has been made again for two."""
    first = run_of()
    crops = first.store.artifact(first.named("crops-raw")[0])
    crops.remove()
    draw(run_of("scores.n=2"))
    before = {path: path.read_bytes() for path in crops.path.rglob("*.json")}
    make_all(run_of("crops.alpha=0.4"))
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_a_setting_that_failed_is_not_planned_for(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {"over": {"crops.layer": [-1, -99]}}
    sweep = Sweep.of("any", str(tiny), Experiment(set=["scores.n=4"], grids=[Grid(**grid)]))
    sweep.execute(Reporter(False))
    assert "Crops used: 64; to embed: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("what", ["seed", "batch size", "damage", "other images' prompt"])
def test_vectors_that_may_differ_are_not_reused(
    run_of: Runner, made: Run, encoded: dict[str, int], what: str
) -> None:
    """Another seed shares no view; another batch size may round differently; and so on."""
    first = run_of()
    shown, changes = encoded["embeddings-raw"], ["crops.alpha=0.4"]
    if what == "seed":
        changes.append("crops.seed=1")
    elif what == "batch size":
        changes.append("runtime.batch_size=3")
    elif what == "damage":
        folder = first.store.artifact(first.named("embeddings-raw")[0]).path
        for chunk in folder.glob("embeddings.zarr/c/*/*/*"):
            chunk.write_bytes(bytes(chunk.stat().st_size))
    else:
        changes.append("raw.prompt=mask")
    run = run_of(*changes)
    make_all(run)
    assert encoded["embeddings-raw"] - shown == distinct([views_of(run, "embeddings-raw")])


@pytest.mark.slow
def test_verifying_deeply_embeds_anew(run_of: Runner, made: Run, encoded: dict[str, int]) -> None:
    run = run_of("crops.alpha=0.4")
    make_all(run)
    before = encoded["embeddings-raw"]
    stage = run.named("embeddings-raw")[0]
    (unit, *_) = stage.units(run.store)
    worker = stage.worker(run.store)
    reused = worker.compute(unit, worker.read(unit))["embeddings"]
    partly = encoded["embeddings-raw"] - before
    worker.disable_reuse()
    anew = worker.compute(unit, worker.read(unit))["embeddings"]
    assert encoded["embeddings-raw"] - before - partly > partly
    assert np.array_equal(np.asarray(reused), np.asarray(anew))


@given(
    places=st.lists(
        st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    ),
    stored=st.lists(st.tuples(st.integers(0, 3), *[st.integers(0, 2)] * 4), max_size=30),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_every_view_gets_the_vector_of_its_own_place(
    places: list[list[tuple[int, ...]]], stored: list[tuple[int, ...]]
) -> None:
    """A vector encodes its image and place; some are reused, some of these more than once."""

    def vectors(rows: np.ndarray) -> np.ndarray:
        return rows @ 3 ** np.arange(5)[:, None].astype(float)

    images, rows = len(places), [(i, *place) for i, each in enumerate(places) for place in each]
    requested = RequestedViews.of(np.array(rows), images, dim=1)
    assert requested.distinct.tolist() == sorted(map(list, set(rows)))
    stored_rows = np.array(stored).reshape(-1, 5)
    requested.take(requested.find(stored_rows), vectors(stored_rows))
    assert (requested.find(stored_rows) == -1).all()
    assert set(map(tuple, requested.missing_rows.tolist())) == set(rows) - set(stored)
    requested.fill(vectors(requested.missing_rows))
    assert np.array_equal(requested.all().reshape(-1, 1), vectors(np.array(rows)))
