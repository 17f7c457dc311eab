"""The figures of a report against independent ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.report import facts, results
from pipeline.report.choice import Choice, choose
from pipeline.report.prefix import Rescored, numbers
from pipeline.report.stored import StoredRun
from pipeline.report.sweeps import sweep_lines
from pipeline.run import Run
from tests.helpers.runs import Runner


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
    rescored = Rescored.of(made.store.open(made.named("scores")[0]))
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
    rescored = Rescored.of(scores)
    method = rescored.growing()["abs"]
    rows = scores.table("scores")
    stored = rows[rows["method"] == "abs"]["pred"].tolist()
    found = rescored._predicted(method, np.arange(len(stored)), len(stored), [4])
    assert found[4].tolist() == stored


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
    assert len(remarks) == 1
    assert "broken" in remarks[0]
    table["top1"] = [0.4, 0.3, 0.4, 0.3]  # whatever crops.k
    table.to_parquet(folder / "mine.parquet")
    (same,) = sweep_lines(replace(run, store=Store(tmp_path, "tiny")))[0][0]["lines"]
    assert (same["with"], same["top1"]) == ("", [0.3, 0.4])


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
