"""The figures of a report against independent ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest

from pipeline import load
from pipeline.core.addresses import opened
from pipeline.explain.texts import ScoredTexts
from pipeline.report import facts, results
from pipeline.report.choice import Choice, choose
from pipeline.report.prefix import Rescored, numbers
from pipeline.report.stored import StoredRun, find_run
from pipeline.report.sweeps import _grids, sweep_lines
from pipeline.report.write import write_report
from pipeline.run import Run
from pipeline.views.readers import ExpectedReader, patch_probs
from tests.helpers.runs import Runner
from tests.helpers.settled import N, P, run_of_both, settled_and_whole
from tests.reference.formulas import soft_scores
from tests.report.test_pages import data_of

pytestmark = pytest.mark.slow

VIEWS = ("raw", "feature")


def scores_of(seed: int, images: int = 60, classes: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label, pred = (rng.integers(0, classes, images) for _ in range(2))
    right = label == pred
    return pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in range(images)],
            "label": label,
            "pred": pred,
            "correct": right,
            "margin": np.where(right, 1, -1) * rng.uniform(0.1, 1, images),
            "confidence": rng.uniform(0, 1, images),
        }
    )


def test_accuracy_over_n_is_that_of_runs_with_fewer_crops(made: Run, run_of: Runner) -> None:
    rescored = Rescored(ScoredTexts.of(made.store.open(made.named("scores")[0])))
    scores = made.store.open(made.named("scores")[0]).table("scores")
    rows = scores[scores["method"] == "abs"].reset_index(drop=True)
    (name, method), *others = rescored.growing().items()
    assert (name, others) == ("abs", [])
    found = rescored.curve(name, method, rows)
    assert [point["n"] for point in found["points"]] == [1, 2, 4]
    for point in found["points"]:
        run = run_of(f"scores.n={point['n']}")
        run.execute(run.stages, [], quiet=True)
        metrics = run.store.open(run.named("metrics")[0]).table("metrics").set_index("method")
        assert point["top1"] == pytest.approx(metrics["top1"]["abs"], abs=1e-12)


def test_predictions_with_all_crops_are_the_stored_ones(made: Run) -> None:
    scores = made.store.open(made.named("scores")[0])
    rescored = Rescored(ScoredTexts.of(scores))
    method = rescored.growing()["abs"]
    rows = scores.table("scores")
    stored = rows[rows["method"] == "abs"]["pred"].tolist()
    found = rescored._predicted(method, np.arange(len(stored)), len(stored), [4])
    assert found[4].tolist() == stored


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run whose images settle, and of one with all crops in expectation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", "")
        yield settled_and_whole(tmp_path_factory)


def test_fewer_of_all_crops_are_known_in_expectation(both: Path) -> None:
    run = run_of_both(both, "whole")
    scores = run.store.open(run.named("scores")[0])
    rescored, rows = Rescored(ScoredTexts.of(scores)), scores.table("scores")
    found = rescored._predicted(rescored.growing()["abs"], np.arange(8), 8, [3, N])
    assert found[N].tolist() == rows[rows["method"] == "abs"]["pred"].tolist()
    raw, feature = (np.asarray(load.embeddings("tiny", v, both / "whole")[:]) for v in VIEWS)
    labels = load.texts("tiny", "cupl", both / "whole")["label"].to_numpy()
    vectors = np.asarray(load.text_embeddings("tiny", "cupl", both / "whole")[:])
    texts = [vectors[labels == label] for label in sorted(set(labels))]
    draws = run.store.open(run.named("crops-feature")[0])
    _, weights = ExpectedReader("feature", feature, 3, patch_probs(draws, 8)).read(slice(0, 8))
    assert weights is not None
    for image in (0, 5):
        views, counts = [*raw[image, :3], *feature[image]], [1, 1, 1, *weights[image]]
        each = [soft_scores([view], texts, 0.03 / 0.2666) for view in views]
        assert found[3][image] == (np.array(counts) @ np.array(each)).argmax()


def test_fewer_crops_of_images_that_settled_are_not_guessed(both: Path) -> None:
    run = run_of_both(both, "settled")
    scores = run.store.open(run.named("scores")[0])
    assert Rescored(ScoredTexts.of(scores)).growing() == {}


def test_crops_that_images_took_are_those_of_the_store(both: Path, tmp_path: Path) -> None:
    run = find_run("tiny", place=both / "settled")
    write_report(run, tmp_path / "report", Choice(images=["0", "5"]), say=lambda _: None)
    (found,) = data_of(tmp_path / "report", "index.html")["settled"]
    table = load.scores("tiny", "abs", both / "settled")
    used = table["crops_used"]
    assert (found["method"], found["p"], found["n"]) == ("abs", P, N)
    assert found["mean"] == pytest.approx(used.mean())
    assert found["all"] == (used == N).sum()
    assert found["doubt"] == pytest.approx(table["bound"][used < N].sum())
    groups = table.groupby("crops_used")["correct"]
    assert [(r["crops"], r["images"], r["top1"]) for r in found["rows"]] == [
        (crops, len(rows), rows.mean()) for crops, rows in groups
    ]
    page = (tmp_path / "report" / "index.html").read_text()
    assert f"{used.mean():.1f} of {N}" in page
    entries = data_of(tmp_path / "report", "crops.html")["entries"]
    assert [entry["settled"]["used"] for entry in entries] == used[[0, 5]].tolist()
    for entry, crops in zip(entries, used[[0, 5]].astype(int), strict=True):
        assert sum(c["count"] for c in entry["branches"]["raw"]["crops"]) == pytest.approx(
            N, abs=0.1
        )
        assert len(entry["branches"]["raw"]["crops"]) <= crops


def test_runs_without_settling_have_no_such_section(report: Path) -> None:
    page = data_of(report, "index.html")
    assert page["settled"] == []
    assert "Settled early" not in (report / "index.html").read_text()
    assert all(e["settled"] is None for e in data_of(report, "crops.html")["entries"])


def test_numbers_of_crops_grow_by_one_two_five() -> None:
    assert numbers(60) == [1, 2, 5, 10, 20, 50, 60]
    assert numbers(1) == [1]


def test_bins_of_confidence_make_up_the_calibration_error() -> None:
    from pipeline.kernels.statistics import calibration_error

    rows = scores_of(0)
    bins = results.calibration({"a": rows})["a"]
    parts = [one["images"] * abs(one["confidence"] - one["top1"]) for one in bins]
    expected = calibration_error(rows["confidence"].to_numpy(), rows["correct"].to_numpy())
    assert sum(parts) / len(rows) == pytest.approx(expected)


def test_confusions_are_counted_and_those_of_the_diagonal_left_out() -> None:
    rows = scores_of(1)
    table = rows.value_counts(["label", "pred"]).rename("images").reset_index().assign(method="a")
    found = results.confusions(table, list("abcd"), ["a"])["a"]
    for pair in found["pairs"]:
        same = (rows["label"] == pair["label"]) & (rows["pred"] == pair["pred"])
        assert pair["images"] == same.sum()
        assert pair["label"] != pair["pred"]
        assert pair["of"] == (rows["label"] == pair["label"]).sum()
    wrong = int((rows["label"] != rows["pred"]).sum())
    assert sum(pair["images"] for pair in found["pairs"]) == wrong
    expected = pd.crosstab(rows["label"], rows["pred"]).to_numpy().tolist()
    assert found["matrix"] == expected


def test_groups_of_images_are_what_their_names_say() -> None:
    mine, other, names = scores_of(2), scores_of(3), list("abcd")
    other["label"] = mine["label"]
    other["correct"] = other["pred"] == other["label"]
    ids = mine["image_id"].tolist()
    found = choose(Choice(count=5), ids, mine, other, names)
    groups: dict[str, list[int]] = {}
    for row, why in found.items():
        for group in why:
            groups.setdefault(group, []).append(row)
    wrong = mine[~mine["correct"]].sort_values("confidence", ascending=False)
    assert set(groups["errors"]) == set(wrong.index[:5])
    helped = mine[mine["correct"] & ~other["correct"]].nlargest(5, "margin")
    harmed = mine[~mine["correct"] & other["correct"]].nsmallest(5, "margin")
    assert set(groups["helped"]) == set(helped.index)
    assert set(groups["harmed"]) == set(harmed.index)
    assert set(mine["label"][groups["sample"]]) == {0, 1, 2, 3}  # every class before a second one
    only = choose(Choice(classes=["b"], errors=True), ids, mine, other, names)
    assert all(mine["label"][row] == 1 and not mine["correct"][row] for row in only)
    assert choose(Choice(images=["7.png", "3"]), ids, mine, other, names) == {
        7: ["chosen"],
        3: ["chosen"],
    }


def test_sweeps_become_lines_with_sigma(run: StoredRun, tmp_path: Path) -> None:
    from dataclasses import replace

    from pipeline.store.store import Store

    table = pd.DataFrame(
        {
            "grid": 0,
            "scores.n": [20, 5, 20, 5],
            "crops.k": [1, 1, 2, 2],
            "row": "",
            "dataset": "tiny",
            "method": "abs",
            "images": 8,
            "classes": 2,
            "top1": [0.4, 0.3, 0.6, 0.5],
            "crops_used": [9.5, 8.25, np.nan, np.nan],
            "sigma": [0.01, 0.02, 0.03, np.nan],
            "seeds": 3,
        }
    )
    folder = tmp_path / "tiny" / "sweeps"
    folder.mkdir(parents=True)
    table.to_parquet(folder / "mine.parquet")
    (folder / "broken.parquet").write_bytes(b"nothing")
    lines, remarks = sweep_lines(replace(run, store=Store(tmp_path, "tiny")))
    assert [(one["over"], len(one["lines"])) for one in lines] == [("scores.n", 2), ("crops.k", 2)]
    first, second = lines[0]["lines"]
    assert (first["with"], first["x"], first["top1"]) == ("crops.k=1", [5, 20], [0.3, 0.4])
    assert second["sigma"] == [None, 0.03]
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "tiny"), "/sweeps/tiny", recursive=True)
    elsewhere = replace(run, store=Store(opened("memory://sweeps"), "tiny"))
    assert sweep_lines(elsewhere)[0] == lines
    memory.rm("/sweeps", recursive=True)
    assert (first["crops"], second["crops"]) == ([8.25, 9.5], [None, None])
    assert len(remarks) == 1
    assert "broken" in remarks[0]
    table["top1"] = [0.4, 0.3, 0.4, 0.3]  # whatever crops.k
    table.to_parquet(folder / "mine.parquet")
    (same,) = sweep_lines(replace(run, store=Store(tmp_path, "tiny")))[0][0]["lines"]
    assert (same["with"], same["top1"]) == ("", [0.3, 0.4])


def test_a_setting_that_is_no_number_everywhere_has_its_values_as_names(run: StoredRun) -> None:
    rows = {"grid": 0, "row": "", "dataset": "tiny", "method": "abs", "images": 8, "classes": 2}
    rows |= {"top1": [0.25, 0.5, 0.75], "crops_used": [np.nan, 8.5, 8.0], "sigma": 0.0, "seeds": 2}
    for values, axis, x in (
        ([None, 0.001, 0.01], "category", ["null", "0.001", "0.01"]),
        ([True, False, True], "category", ["true", "false", "true"]),
        (["all", "drawn", "all"], "category", ["all", "drawn", "all"]),
        ([0.001, 0.01, 0.1], "log", [0.001, 0.01, 0.1]),
        ([0, 1, 2], "linear", [0, 1, 2]),
    ):
        table = pd.DataFrame({**rows, "scores.settle": values})
        (found,) = _grids(table)
        assert (found["over"], found["axis"]) == ("scores.settle", axis)
        (line,) = found["lines"]
        assert (line["x"], line["top1"]) == (x, [0.25, 0.5, 0.75])
        assert line["crops"] == [None, 8.5, 8.0]


def test_copies_among_the_images_are_said(run: StoredRun) -> None:
    images = pd.DataFrame(
        {"image_id": list("abcd"), "sha256": ["1", "2", "1", "2"], "label": [0, 0, 0, 1]}
    )
    found = [each["text"] for each in facts.remarks(run, images)]
    assert any(
        "4 images are copies of one another, in 2 groups; 1 of these" in one for one in found
    )


def test_keys_and_digests_are_those_of_the_store(run: StoredRun, finished: Path) -> None:
    found = facts.reproduction(run)
    for row in found["stages"]:
        assert (finished / "tiny" / row["stage"] / row["key"] / "manifest.json").is_file()
    assert ["scores.n", "4"] in found["settings"]
