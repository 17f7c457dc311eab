"""What other settings have embedded is taken from there, and it makes no difference to any byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.commands import Run
from pipeline.known_views import Asked, still_to_embed
from pipeline.models.clip import Clip
from pipeline.views import BOX, WINDOW
from tests.conftest import Runner, make_all

SETTINGS = ("crops.alpha=0.3", "crops.k=5", "crops.temperature=0.1")
EMBEDDED = ("embeddings-raw", "embeddings-feature")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many views CLIP was shown, by stage."""
    counts = dict.fromkeys(EMBEDDED, 0)
    whole, windows = Clip.encode_images, Clip.encode_windows

    def encode_images(self: Clip, images: Any, full: bool = False) -> Any:
        counts["embeddings-raw"] += len(images) if full else 0
        return whole(self, images, full)

    def encode_windows(self: Clip, tokens: Any, places: Any, *more: Any) -> Any:
        counts["embeddings-feature"] += len(places)
        return windows(self, tokens, places, *more)

    monkeypatch.setattr(Clip, "encode_images", encode_images)
    monkeypatch.setattr(Clip, "encode_windows", encode_windows)
    return counts


def views_of(run: Run, name: str) -> pd.DataFrame:
    """Unit, image and place of each view of a stage of embeddings."""
    (stage,) = run.named(name)
    columns = BOX if name == "embeddings-raw" else WINDOW
    table = run.store.open(stage.views).table("crops")  # type: ignore[attr-defined]
    block = stage.views.shape(run.store)[1]  # type: ignore[attr-defined]
    return table.assign(block=table["crop"] // block)[["block", "image", *columns]]


def distinct(tables: list[pd.DataFrame]) -> int:
    return len(pd.concat(tables).drop_duplicates())


@pytest.mark.parametrize("encode", ["all", "drawn"])
def test_a_run_after_others_has_the_bytes_of_a_run_alone(
    run_of: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoded: dict[str, int],
    encode: str,
) -> None:
    """Every distinct view is embedded once in all, as was planned; and nothing else differs."""
    common = ("scores.n=12", f"windows.encode={encode}", "windows.k=null")
    changes = [(), *((each,) for each in SETTINGS)]
    runs = [run_of(*common, *each) for each in changes]
    digests = []
    for run in runs:
        run.execute([s for s in run.stages if s.kind in ("index", "attention", "crops")], [], True)
    planned = {n: still_to_embed(runs[0].store, [r.named(n)[0] for r in runs]) for n in EMBEDDED}  # type: ignore[misc]
    for run in runs:
        digests.append(make_all(run))
    assert encoded == planned
    for name in EMBEDDED:
        tables = [views_of(run, name) for run in runs]
        assert planned[name] == distinct(tables) < sum(map(len, tables))
        left = still_to_embed(runs[0].store, [r.named(name)[0] for r in runs])  # type: ignore[misc]
        assert left == 0
    for number, each in enumerate(changes):
        monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / f"alone-{number}"))
        assert make_all(run_of(*common, *each)) == digests[number]


def test_what_is_half_finished_counts_for_what_it_has(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(run_of("scores.n=2"))
    more = run_of("scores.n=4")
    more.execute([stage for stage in more.stages if stage.kind == "crops"], [], True)
    raw = more.named("embeddings-raw")[0]
    table = views_of(more, "embeddings-raw")
    assert still_to_embed(more.store, [raw]) == distinct([table[table["block"] == 1]])  # type: ignore[list-item]


@pytest.mark.parametrize("what", ["seed", "batch size", "damage", "other images' prompt"])
def test_what_may_differ_is_not_taken(run_of: Runner, encoded: dict[str, int], what: str) -> None:
    """Another seed has nothing in common; another batch size may round otherwise; and the rest."""
    first = run_of()
    make_all(first)
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


def test_verifying_deeply_embeds_anew(run_of: Runner, encoded: dict[str, int]) -> None:
    make_all(run_of())
    run = run_of("crops.alpha=0.4")
    make_all(run)
    before = encoded["embeddings-raw"]
    stage = run.named("embeddings-raw")[0]
    (unit, *_) = stage.units(run.store)
    worker = stage.worker(run.store)
    taken = worker.compute(unit, worker.read(unit))["embeddings"]
    partly = encoded["embeddings-raw"] - before
    worker.trust_nothing()
    anew = worker.compute(unit, worker.read(unit))["embeddings"]
    assert encoded["embeddings-raw"] - before - partly > partly
    assert np.array_equal(np.asarray(taken), np.asarray(anew))


@given(
    places=st.lists(
        st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    ),
    known=st.sets(st.integers(0, 19)),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_every_view_gets_the_vector_of_its_own_place(
    places: list[list[tuple[int, ...]]], known: set[int]
) -> None:
    """A vector that tells its image and place, some of them known before."""

    def vector(row: Any) -> list[float]:
        return [float(sum(int(x) * 3**i for i, x in enumerate(row)))]

    asked = Asked.of(np.array(places), dim=1)
    rows = [tuple(row) for row in asked.distinct.tolist()]
    assert len(rows) == len({(i, place) for i, each in enumerate(places) for place in each})
    for i in known & set(range(len(rows))):
        asked.vectors[i] = vector(rows[i])
    made = [vector((i, *place)) for i in range(len(places)) for place in asked.places(i).tolist()]
    if made:
        asked.fill(np.array(made))
    expected = [[vector((i, *place)) for place in each] for i, each in enumerate(places)]
    assert np.array_equal(asked.all(), np.array(expected))
