"""Results of other systems: what is taken in, what is refused, and how they score beside others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.datasets.classes import Classes
from pipeline.run import Run
from pipeline.studies.compare import compare_methods
from pipeline.studies.imports import import_scores
from tests.helpers.runs import Runner, make_all, said
from tests.reference.case import array, table

IMAGES = pd.Series(["a/1.png", "a/2.png", "b/3.png"])
NAMES = ("crow", "jay", "7")
CLASSES = Classes(NAMES, tuple((name,) for name in NAMES), (True,) * 3)


def taken(folder: Path, rows: pd.DataFrame, suffix: str = "csv", name: str = "theirs") -> list:
    """Import a table; return its scores by image."""
    file = folder / f"given.{suffix}"
    rows.to_csv(file, index=False) if suffix == "csv" else rows.to_parquet(file)
    path, _ = import_scores(file, folder, name, "their paper", IMAGES, CLASSES)
    found = pd.read_parquet(path)
    assert list(found["image_id"]) == list(IMAGES)
    scores: list = found[["0", "1", "2"]].to_numpy().tolist()
    return scores


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predictions_are_names_or_labels_in_any_order(tmp_path: Path, suffix: str) -> None:
    """The class called 7 is meant by 7, and the label 2 too."""
    rows = pd.DataFrame({"pred": ["7", "jay", "0"], "image_id": IMAGES[::-1].to_numpy()})
    assert taken(tmp_path, rows, suffix) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    rows["pred"] = [2, 1, 0] if suffix == "parquet" else ["2", "1.0", "crow"]
    assert taken(tmp_path, rows, suffix) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_scores_are_columns_of_classes(tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame({"7": [3.0, 6, 9], "crow": [1.0, 4, 7], "image_id": IMAGES, "1": [2.5] * 3})
    assert taken(tmp_path, rows, suffix) == [[1, 2.5, 3], [4, 2.5, 6], [7, 2.5, 9]]


GOOD = pd.DataFrame({"image_id": IMAGES, "pred": ["crow"] * 3})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[1:], "1 image without a row, such as 'a/1.png'"),
        (pd.concat([GOOD, GOOD[:1]]), "'a/1.png' is there twice"),
        (GOOD.replace("a/1.png", "x.png"), "such as 'a/1.png'"),
        (
            pd.concat([GOOD, GOOD[:1].assign(image_id="x.png")]),
            "1 image that the dataset has not, such as 'x.png'",
        ),
        (GOOD.rename(columns={"image_id": "id"}), "no column 'image_id'; it has id, pred"),
        (GOOD.assign(pred="rook"), "pred of 'a/1.png': 'rook' is no class"),
        (GOOD.assign(pred="3"), "'3' is no class: neither a name nor 0 to 2"),
        (GOOD.assign(pred=""), "'' is no class"),
        (GOOD.drop(columns="pred").assign(crow=1), "1 columns of scores for 3 classes"),
        (
            pd.DataFrame({"image_id": IMAGES, "0": 1, "1": [1, np.inf, 2], "2": 1}),
            "scores of 'a/2.png' are not all finite numbers",
        ),
        (
            pd.DataFrame({"image_id": IMAGES, "0": 1, "1": "x", "2": 1}),
            "scores of 'a/1.png' are not all finite numbers",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, rows: pd.DataFrame, message: str
) -> None:
    with pytest.raises(AbsError) as raised:
        taken(tmp_path, rows)
    assert message in str(raised.value)
    assert not (tmp_path / "imports").exists()


def test_other_names_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use letters"):
        taken(tmp_path, GOOD, name="../theirs")
    with pytest.raises(MissingInput, match="no such file"):
        import_scores(tmp_path / "x.csv", tmp_path, "x", "", IMAGES, CLASSES)
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(AbsError, match="neither CSV nor Parquet"):
        import_scores(tmp_path / "x.parquet", tmp_path, "x", "", IMAGES, CLASSES)


def test_imported_scores_are_scored_like_others(made: Run, run_of: Runner, tmp_path: Path) -> None:
    """The scores of ABS, exported and imported, predict what ABS predicts."""
    scores = pd.DataFrame(array(made, "scores", "logits")[:, 2], columns=["0", "1"])
    scores.insert(0, "image_id", table(made, "index", "images")["image_id"])
    scores[::-1].to_parquet(tmp_path / "abs.parquet")
    run = made
    folder, images = run.store.folder, table(run, "index", "images")["image_id"]
    classes = run.named("scores")[0].classes  # type: ignore[attr-defined]
    import_scores(tmp_path / "abs.parquet", folder, "ours", "a run", images, classes)
    run = run_of("scores.methods=[abs, imported:ours]")
    make_all(run)
    logits = array(run, "scores", "logits")
    assert np.array_equal(logits[:, 0], logits[:, 1])
    metrics = table(run, "metrics", "metrics").set_index("method")["top1"]
    assert metrics["abs"] == metrics["imported:ours"]
    both = compare_methods(lambda _: run, "abs", "imported:ours")
    assert both.only_a == both.only_b == 0
    scored = run.named("scores")[0]
    assert scored.remarks(run.store.artifact(scored)) == ["imported:ours: a run"]


def test_imported_scores_that_change_are_other_scores(
    made: Run, run_of: Runner, tmp_path: Path
) -> None:
    images = table(made, "index", "images")["image_id"]
    classes = made.named("scores")[0].classes  # type: ignore[attr-defined]

    def key(pred: str) -> str:
        pd.DataFrame({"image_id": images, "pred": pred}).to_csv(tmp_path / "p.csv", index=False)
        import_scores(tmp_path / "p.csv", made.store.folder, "p", "x", images, classes)
        return run_of("scores.methods=[imported:p]").named("scores")[0].key

    assert key("0") == key("0") != key("1")
    path = made.store.folder / "imports" / "p.parquet"
    changed = pd.read_parquet(path)
    run = run_of("scores.methods=[imported:p]")
    changed["0"] += 1.0
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    import pyarrow as pa

    kept = pa.Table.from_pandas(changed, preserve_index=False)
    pq.write_table(kept.replace_schema_metadata(schema.metadata), path)
    with pytest.raises(AbsError, match="changed since it was imported"):
        make_all(run)


def test_the_command_says_what_to_run_next(made: Run, tiny: Path, tmp_path: Path) -> None:
    images = table(made, "index", "images")["image_id"]
    pd.DataFrame({"image_id": images, "pred": "1"}).to_csv(tmp_path / "p.csv", index=False)
    words = ["import-scores", tmp_path / "p.csv", tiny, "--name", "theirs", "--source", "a paper"]
    answer = said(*words)
    assert answer.returncode == 0, answer.stderr
    assert f"predictions of {len(images)} images" in answer.stdout
    assert "scores.methods=[abs,imported:theirs]" in answer.stdout
    missing = said("run", tiny, "--set", "scores.methods=[imported:mine]")
    assert missing.returncode != 0
    assert missing.stderr.count("\n") == 1
    assert "run: abs import-scores FILE --name mine" in missing.stderr
