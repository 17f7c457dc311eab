"""Images that stop when they have settled: what is embedded, decided, shared and computed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline import load
from pipeline.bench.damage import flip
from pipeline.cli.study_tables import print_settling
from pipeline.core.errors import AbsError, ConfigError, MissingInput, UnitsFailed
from pipeline.core.progress import Reporter
from pipeline.explain.explainer import Explainer
from pipeline.inspect.status import states
from pipeline.kernels.rounds import round_ends
from pipeline.methods.base import Method
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS
from pipeline.models.clip.model import ClipModel
from pipeline.run import Run
from pipeline.store.artifact import Artifact
from pipeline.store.units import by_round, round_units
from pipeline.studies.experiments import Experiment, grid_of
from pipeline.studies.settling import check_settling, on_sample
from pipeline.studies.sharing import crops_at_most
from pipeline.studies.sweeps import Sweep
from pipeline.texts.vectors import text_vectors
from pipeline.views import reuse
from pipeline.views.config import BOX
from pipeline.views.deciding import Decider
from pipeline.views.readers import ExpectedReader, patch_probs
from pipeline.views.settled import settling_views
from stages.settled import SettledWorker
from tests.helpers.runs import Runner, make_all, said
from tests.helpers.settled import SETTLED, N, P, run_in, run_of_both, settled_and_whole
from tests.reference import settling
from tests.reference.formulas import soft_scores


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store `settled`, which has settled views, and `whole`, which has all."""
    return settled_and_whole(tmp_path_factory)


def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of crops that CLIP was shown, from now on."""
    counts: list[int] = []
    encode = ClipModel.encode_images

    def counted(self: ClipModel, images: Any, full: bool = False) -> Any:
        counts.extend([len(images)] if full else [])
        return encode(self, images, full)

    monkeypatch.setattr(ClipModel, "encode_images", counted)
    return counts


def stored_digests(folder: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((folder / "digests.json").read_text())
    return found


@pytest.fixture
def copied(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `both`, to be changed."""
    monkeypatch.setenv("ABS_ARTIFACTS", "")
    folder = tmp_path / "copied"
    shutil.copytree(both, folder)
    return folder


def vectors(run: Run, view: str) -> np.ndarray:
    return np.asarray(run.store.open(run.named(f"embeddings-{view}")[0]).array("embeddings")[:])


@pytest.mark.slow
def test_each_image_stops_by_the_rule_and_no_vector_differs(copied: Path) -> None:
    """Stops, bounds and decisions follow from the vectors of a run that has embedded all crops."""
    whole, settled = run_of_both(copied, "whole"), run_of_both(copied, "settled")
    scores = whole.named("scores")[0]
    texts = text_vectors(whole.store.open(scores.texts["cupl"]), 2)
    by_class = [texts.vectors[c, :count].numpy() for c, count in enumerate(texts.counts)]
    temperature = scores.config.scaled_temperature
    raw, feature = vectors(whole, "raw")[:, :N], vectors(whole, "feature")
    draws = whole.store.open(scores.drawn["feature"])
    _, weights = ExpectedReader("feature", feature, N, patch_probs(draws, len(feature))).read(
        slice(0, len(feature))
    )
    table = settled.store.open(settled.named("scores")[0]).table("scores")
    table = table[table["method"] == "abs"].reset_index(drop=True)
    drawn = whole.store.open(whole.named("crops-raw")[0]).table("crops")
    drawn = drawn[drawn["crop"] < N].sort_values(["image", "crop"])
    boxes = drawn[BOX].to_numpy().reshape(len(raw), N, 4)
    one = lambda v: np.array(soft_scores([v], by_class, temperature))  # noqa: E731
    crops = settled.store.open(settled.named("embeddings-raw")[0]).table("crops")
    for image, row in table.iterrows():
        others = sum(w * one(v) for v, w in zip(feature[image], weights[image], strict=True))
        own = np.stack([one(v) for v in raw[image]])
        order = settling.order(boxes[image], P)
        used, bound, front = settling.stop(own[order], others, boxes[image][order], P)
        assert (row["crops_used"], row["pred"]) == (used, front)
        assert row["bound"] == pytest.approx(bound, rel=1e-3, abs=1e-12)
        assert row["round"] == round_ends(N).index(used)
        assert crops["crop"][crops["image"] == image].tolist() == order[:used]
    assert 8 == table["crops_used"].min() < table["crops_used"].max()
    assert len(crops) == table["crops_used"].sum()
    assert (np.stack(crops["vector"]) == raw[crops["image"], crops["crop"]]).all()
    none = settled.store.open(settled.named("scores")[0]).table("scores").query("method == 'clip'")
    assert none["crops_used"].isna().all()


@pytest.mark.slow
def test_what_reads_a_store_reads_settled_views(both: Path) -> None:
    run = run_in(both, "settled", *SETTLED, "scores.methods=[clip,abs]")
    at: Any = {"store": both / "settled"}
    table = load.scores("tiny", "abs", **at)
    crops = load.settled("tiny", **at)
    assert crops.groupby("image").size().tolist() == table["crops_used"].tolist()
    with pytest.raises(ConfigError, match=r'load\.settled.*\*\*\{"scores\.settle": None\}'):
        load.embeddings("tiny", **at)
    with pytest.raises(MissingInput, match="no finished"):
        load.embeddings("tiny", **at, **{"scores.settle": None})
    metrics = load.metrics("tiny", **at).set_index("method")["crops_used"]
    assert metrics["abs"] == table["crops_used"].mean()
    assert np.isnan(metrics["clip"])
    (raw,) = [each for each in states(run.store, run.stages) if each["stage"] == "embeddings-raw"]
    assert f"{metrics['abs']:.1f} of {N} crops an image" in raw["remarks"][0]
    image = int(table["crops_used"].argmax())
    explained = Explainer.of(run.store.open(run.named("scores")[0]), "abs").explain(image)
    views = explained.by_view().query("branch == 'raw'").sort_values("view")
    own = crops[crops["image"] == image]
    ends = ["left", "top", "right", "bottom"]
    assert views[["view", *ends]].to_numpy().tolist() == own[["crop", *BOX]].to_numpy().tolist()


@pytest.mark.slow
def test_a_sweep_compares_settled_images_with_all_crops(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It plans at most all crops, embeds none that are stored, and has the mean an image takes."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(copied / "settled"))
    own = [*SETTLED[:-1], "scores.methods=[abs]"]
    over = {"scores.settle": [None, P, 1e-3]}
    experiment = Experiment.model_validate({"set": own, "grids": [{"over": over}]})
    sweep = Sweep.of("settled", str(copied / "tiny.yaml"), experiment)
    known = len(load.settled("tiny", store=copied / "settled"))
    most = sum(row["crops_at_most"] for row in sweep.plan()["stages"] if row["crops_at_most"])
    images = len(load.images("tiny", store=copied / "settled"))
    assert most == 2 * images * N  # one of the three is stored: what decides is ABS there too
    counts = embedded(monkeypatch)
    sweep.execute(Reporter(quiet=True))
    assert sum(counts) == images * N - known
    table = sweep.table()
    whole, late, early = table["crops_used"]
    np.testing.assert_array_equal(table["scores.settle"], [np.nan, P, 1e-3])
    assert np.isnan(whole)
    assert 8 <= early < late < N
    sweep.write()
    stored = load.sweep("tiny", store=copied / "settled")["crops_used"]
    np.testing.assert_array_equal(stored, table["crops_used"])


def test_values_that_yaml_takes_for_texts_are_numbers_of_a_sweep() -> None:
    """As `1e-5`, which YAML 1.1 reads as a text: a table cannot hold it beside numbers."""
    for grid in (
        grid_of(["scores.settle=null,1e-5,1.5E-3,0.001"]),
        Experiment.model_validate(
            {"grids": [{"over": {"scores.settle": [None, "1e-5", "1.5E-3", 0.001]}}]}
        ).grids[0],
    ):
        assert grid.over["scores.settle"] == [None, 1e-5, 1.5e-3, 0.001]
    assert grid_of(["clip.precision=auto,1e", "crops.k=5"]).over == {
        "clip.precision": ["auto", "1e"], "crops.k": [5],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--set", "scores.methods=[clip]"], "no view of clip may stop early"),
        (["--set", "scores.settle=null"], "give a probability"),
    ],
)
def test_a_check_that_would_compare_nothing_computes_nothing(
    tiny: Path,
    tmp_path: Path,
    changes: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    found = said("check-settle", "--dataset", str(tiny), *changes)
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_settling_that_has_no_effect_is_said(run_of: Runner) -> None:
    def notes(*changes: str) -> list[str]:
        return run_of("scores.settle=0.001", *changes).named("scores")[0].notes

    assert notes("scores.methods=[abs]") == []
    (note,) = notes("scores.methods=[clip]")
    assert note.startswith("scores.settle has no effect: no view of clip")


def test_a_sample_has_images_of_every_class_and_all_classes(tiny: Path) -> None:
    plans = [on_sample(5), None, on_sample(5), None]  # neither is remembered as the other
    again, keys = list[Run](), list[str]()
    for plan in plans:
        again.append(Run.of(str(tiny), "official", [], plan=plan))
        keys.append(again[-1].named("index")[0].key)  # from here on it is remembered
    assert keys[:2] == keys[2:]
    sample, whole = again[:2]
    index = [run.named("index")[0] for run in (whole, sample)]
    labels = [[label for _, label in each.dataset.samples] for each in index]  # type: ignore[attr-defined]
    assert (len(labels[0]), len(labels[1])) == (8, 5)
    assert set(labels[1]) == set(labels[0])
    assert index[0].key != index[1].key
    scores = [run.named("scores")[0] for run in (whole, sample)]
    assert scores[0].classes == scores[1].classes  # type: ignore[attr-defined]


@pytest.mark.slow
def test_both_kinds_lend_and_borrow(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In either order only what is missing is embedded, and digests are those of stores apart."""
    known, counts = stored_digests(copied), embedded(monkeypatch)
    after = run_in(copied, "whole", *SETTLED)
    assert make_all(after) == known["settled"]
    assert counts == []
    (check,) = check_settling(after, run_of_both(copied, "whole"))
    tables = [
        run.store.open(run.named("scores")[0]).table("scores").query("method == 'abs'")
        for run in (after, run_of_both(copied, "whole"))
    ]
    same = int((tables[0]["pred"].to_numpy() == tables[1]["pred"].to_numpy()).sum())
    assert (check.method, check.same, check.images, check.of) == ("abs", same, 8, N)
    assert check.crops == tables[0]["crops_used"].mean()
    assert check.holds == (same == 8)  # at p = 1e-5 a single one breaks it
    print_settling([check])
    assert f"{same} of 8 decisions" in capsys.readouterr().out
    more = run_in(copied, "settled", *SETTLED[:-1])
    assert crops_at_most(more.store, after.named("embeddings-raw")) == 0
    assert make_all(more) == known["whole"]
    looks = after.store.open(after.named("embeddings-raw")[0]).table("looks")
    used = looks.groupby("image")["crops_used"].max().sum()
    assert 0 < sum(counts) <= 8 * N - used  # equal boxes of an image are embedded once


@pytest.mark.slow
def test_rounds_read_each_table_of_views_once_and_no_vector_in_vain(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images come round after round; what is known of their crops is not read again each time."""
    settled, whole = run_in(copied, "whole", *SETTLED), run_of_both(copied, "whole")
    stages = settled.named("embeddings-raw")
    tables, chunks = [], []
    stored, table, read = reuse.stored_table, Artifact.table, reuse.StoredViews.read

    def counted_stored(artifact: Artifact, unit: Any, name: str, columns: list[str]) -> Any:
        tables.append((artifact.path, unit.name, name, *columns))
        return stored(artifact, unit, name, columns)

    def counted_table(self: Artifact, name: str, unit: Any = None, **more: Any) -> Any:
        tables.append((self.path, unit and unit.name, name, *(more.get("columns") or ())))
        return table(self, name, unit, **more)

    def counted_read(self: reuse.StoredViews, unit: Any, *more: Any) -> Any:
        chunks.append(unit.name)
        return read(self, unit, *more)

    settled.execute(settled.stages[: settled.stages.index(stages[0])], [], quiet=True)
    monkeypatch.setattr(reuse, "stored_table", counted_stored)
    monkeypatch.setattr(Artifact, "table", counted_table)
    monkeypatch.setattr(reuse.StoredViews, "read", counted_read)
    settled.execute(stages, [], quiet=True)
    views = whole.named("crops-raw")[0].key
    of_views = [each for each in tables if each[0].name == views]
    assert len(of_views) == len(set(of_views)) > 0
    units, most = stages[0].units(settled.store), N // 2
    taken = settled.store.open(stages[0]).table("crops")
    wanted = sum(
        len(own.assign(block=own["crop"] // 2)[["block"]].drop_duplicates())
        for unit in units
        for _, own in taken[
            taken["image"].between(unit.rows.start, unit.rows.stop - 1)
            & (taken.groupby("image").cumcount().between(unit.crops.start, unit.crops.stop - 1))
        ].groupby(taken["image"] // 3)
    )
    assert len(chunks) == wanted < most * len(units)


def test_a_memory_keeps_what_it_read_first_and_no_more_than_there_is_room_for() -> None:
    memory, asked = reuse.Memory(100), []

    def value(key: str, numbers: int | None) -> np.ndarray | None:
        def read() -> np.ndarray | None:
            asked.append(key)
            return None if numbers is None else np.full(numbers, ord(key))

        return memory.of(key, read)

    for _ in range(2):
        first, large, second, none = value("a", 6), value("b", 7), value("c", 6), value("d", None)
        assert none is None
        for found, key in ((first, "a"), (large, "b"), (second, "c")):
            assert found is not None
            assert set(found.tolist()) == {ord(key)}
    assert "".join(asked) == "abcdbd"


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_the_round_it_was_in(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of_both(copied, "settled")
    (stage,) = run.named("embeddings-raw")
    run.store.artifact(stage).forget([u.name for u in stage.units(run.store) if u.round])
    compute, seen = SettledWorker.compute, []

    def fail_once(self: SettledWorker, unit: Any, inputs: Any) -> Any:
        seen.append(unit.round)
        if len(seen) == 2:
            raise ValueError("struck")
        return compute(self, unit, inputs)

    monkeypatch.setattr(SettledWorker, "compute", fail_once)
    with pytest.raises(UnitsFailed, match="struck"):
        run.execute([stage], [], quiet=True)
    assert seen == [1, 2]  # no round without the one before
    again = run_of_both(copied, "settled")
    assert make_all(again) == stored_digests(copied)["settled"]
    assert seen == [1, 2, *range(2, len(round_ends(N)))]


@pytest.mark.slow
@pytest.mark.parametrize("table", ["order", "looks", "crops"])
def test_a_damaged_unit_that_a_later_round_reads_is_made_again(copied: Path, table: str) -> None:
    """A changed byte leaves the size, so that only reading finds it; the next run mends it."""
    run = run_of_both(copied, "settled")
    (stage,) = run.named("embeddings-raw")
    artifact, units = run.store.artifact(stage), stage.units(run.store)
    used = artifact.table("looks").groupby("image")["crops_used"].max()
    first, second, *_ = units.overlapping([used.idxmax()], None)
    artifact.forget([u.name for u in units if u.round > 1])
    read = second if table == "looks" else first
    flip(artifact.path / f"{table}.parquet" / f"{read.name}.parquet", Random(0))
    with pytest.raises((UnitsFailed, AbsError), match="what is lost is computed again"):
        run.execute([stage], [], quiet=True)
    again = run_of_both(copied, "settled")
    assert make_all(again) == stored_digests(copied)["settled"]


@pytest.mark.slow
def test_rounds_that_do_not_belong_together_are_refused_and_made_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a first round that was lost were made again on a machine with another order."""
    run = run_of_both(copied, "settled")
    stages = [
        stage for name in ("embeddings-raw", "scores", "metrics") for stage in run.named(name)
    ]
    raw, *of_scores = (run.store.artifact(stage) for stage in stages)
    last = raw.table("looks").groupby("image")["crops_used"].max().idxmax()
    first, *_ = stages[0].units(run.store).overlapping([last], None)
    read, order = SettledWorker.read, Decider.order

    def elsewhere(self: SettledWorker, unit: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if unit == first:
                patch.setattr(Decider, "order", lambda *given: order(*given)[:, ::-1])
            return read(self, unit)

    monkeypatch.setattr(SettledWorker, "read", elsewhere)
    expected = make_all(run_in(copied, "elsewhere", *SETTLED))
    raw.forget([first.name])
    for artifact in of_scores:
        artifact.remove()
    images = f"a round of images {first.rows.start} to {first.rows.stop - 1}"
    with pytest.raises(AbsError, match=f"{images} is not what was written; .* computed again"):
        run_of_both(copied, "settled").execute(run.stages, [], quiet=True)
    assert make_all(run_of_both(copied, "settled")) == expected


@pytest.mark.slow
def test_infinitely_many_crops_are_sampled_in_the_order_of_the_draws(copied: Path) -> None:
    run = run_in(copied, "whole", *SETTLED, "scores.settle_at=expectation")
    make_all(run)
    (stage,) = run.named("embeddings-raw")
    crops = run.store.open(stage).table("crops")
    for _, own in crops.groupby("image"):
        assert own["crop"].tolist() == list(range(len(own)))


def test_round_units_cover_every_crop_of_every_image_once() -> None:
    units = round_units(10, 2, round_ends(22))
    seen = np.zeros((10, 22), int)
    for unit in units:
        assert unit.crops
        seen[unit.rows, unit.crops] += 1
    assert (seen == 1).all()
    assert [group[0].round for group in by_round(reversed(units))] == [0, 1, 2, 3, 4, 5]
    assert [u.name for u in units.overlapping([5], slice(7, 9))] == ["r00-00002", "r01-00000"]


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({}, "raw"),
        ({"raw": False}, "feature"),
        ({"raw": False, "expectation": True}, None),
        ({"raw": False, "feature": False}, None),
    ],
)
def test_views_that_settle(changes: dict[str, bool], view: str | None) -> None:
    config = ScoresConfig(**changes)  # type: ignore[arg-type]
    methods: dict[str, Method] = {name: METHODS[name]() for name in ("clip", "wca", "abs")}
    assert list(settling_views(methods, config)) == ([view] if view else [])


def test_a_view_settles_only_if_all_methods_that_read_it_do() -> None:
    class Other(METHODS["abs"]):  # type: ignore[misc, valid-type, name-defined]
        def settling(self, config: ScoresConfig) -> None:
            return None

    methods = {"abs": METHODS["abs"](), "other": Other()}
    assert settling_views(methods, ScoresConfig()) == {}


def test_the_key_holds_what_decides_and_nothing_changes_without(run_of: Runner) -> None:
    def keys(*changes: str) -> dict[str, str]:
        return {stage.name: stage.key for stage in run_of(*changes).stages}

    off, on = keys(), keys("scores.settle=0.001")
    assert {name for name in off if off[name] != on[name]} == {
        "embeddings-raw", "scores", "metrics",
    }  # fmt: skip
    assert keys("scores.settle_at=expectation") == off
    for change in (
        "scores.settle=0.002", "scores.settle_at=expectation", "scores.temperature=0.5",
        "scores.n=5", "scores.m=3", "descriptions.cupl.file=pipeline/demo/prompts/cupl-clean.json",
        "scores.expectation=true", "crops.seed=1",
    ):  # fmt: skip
        assert keys("scores.settle=0.001", change)["embeddings-raw"] != on["embeddings-raw"], change


def test_a_setting_that_is_no_probability_is_refused(run_of: Runner) -> None:
    for value in ("0", "1", "-0.1", "nan"):
        with pytest.raises(ConfigError, match=r"scores\.settle"):
            run_of(f"scores.settle={value}")
