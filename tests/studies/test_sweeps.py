"""A sweep makes what its runs share once, goes on after a failure, and resumes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline import load
from pipeline.cli.study_tables import print_sweep_table
from pipeline.cli.tables import print_results, results
from pipeline.core.errors import ConfigError
from pipeline.core.layers import known
from pipeline.core.progress import Reporter
from pipeline.models.clip.dimensions import Vision
from pipeline.run import Run
from pipeline.studies.experiments import SEEDED, Experiment, Grid, grid_of, load_experiment
from pipeline.studies.paper import backbone_of, beside_paper, reported
from pipeline.studies.stored import FIGURES
from pipeline.studies.sweeps import Sweep
from tests.helpers.runs import Runner, make_all, said

N4 = ["scores.n=4"]


def sweep_of(tiny: Path, **fields: object) -> Sweep:
    return Sweep.of("any", str(tiny), Experiment.model_validate({"set": N4, **fields}))


# --- Experiments ------------------------------------------------------------------------------


def test_points_are_every_combination_of_every_grid_with_every_seed() -> None:
    grids = [{"over": {"crops.k windows.k": [5, 9], "scores.n": [1, 2]}}, {"over": {}}]
    points = Experiment.model_validate({"set": ["a.b=1"], "seeds": 2, "grids": grids}).points()
    assert len(points) == (4 + 1) * 2
    first, *_, last = points
    assert first.overrides == [
        "a.b=1", "crops.k=5", "windows.k=5", "scores.n=1", *(f"{name}=0" for name in SEEDED)
    ]  # fmt: skip
    assert (last.values, last.seed, last.title) == ({}, 1, "seed 1")
    assert first.title == "crops.k windows.k=5, scores.n=1, seed 0"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("crops.k=5,10", [5, 10]),
        ("crops.alpha=0.1", [0.1]),
        ("scores.methods=[abs,cupl],[abs]", [["abs", "cupl"], ["abs"]]),
        ("raw.prompt=crop,mask", ["crop", "mask"]),
        ("scores.m=null,3", [None, 3]),
    ],
)
def test_values_on_the_command_line_are_yaml(text: str, values: list[object]) -> None:
    assert grid_of([text]).over == {text.partition("=")[0]: values}


@pytest.mark.parametrize("text", ["crops.k", "crops.k=", "=3", "crops.k=[1", "crops.k={a: ,"])
def test_a_grid_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section.field=value,value"):
        grid_of([text])


@pytest.mark.parametrize("name", known("experiments"))
@pytest.mark.parametrize("dataset", ["demo", "imagenet"])
def test_every_experiment_can_be_read(name: str, dataset: str) -> None:
    experiment = load_experiment(name, dataset)
    assert experiment.points()
    assert experiment.about


@pytest.mark.slow
@pytest.mark.parametrize("name", known("experiments"))
def test_every_experiment_can_be_run_on_the_demo(name: str) -> None:
    sweep = Sweep.of(name, "demo", load_experiment(name, "demo"))
    assert not sweep.failed
    assert sweep.runs


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "expected sections"),
        ("seeds: 0", "seeds: input should be greater"),
        ("grids: 3", "grids: input should be a valid list"),
        ("nonsense: {a: 1}", "'nonsense' is neither a field"),
        ("grids: [{over: {crops.k: 3}}]", r"grids.0.over.crops.k: input should be a valid list"),
    ],
)
def test_a_wrong_experiment_is_one_line(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=told):
        load_experiment(str(path), "demo")
    answer = said("sweep", path, "--dataset", "demo")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)


# --- Running ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_runs_share_is_made_once_and_counted_once(tiny: Path) -> None:
    grid = {"over": {"scores.temperature": [0.03, 0.5], "scores.n": [2, 4]}}
    sweep = sweep_of(tiny, set=[], grids=[grid])
    before = sweep.plan()
    rows = {row["stage"]: row for row in before["stages"]}
    assert before["crops_asked"] == 2 * 8 * (2 + 4) * 2
    assert (rows["embeddings-raw"]["artifacts"], rows["scores"]["artifacts"]) == (1, 4)
    assert before["crops_to_embed"] is None
    sweep.execute(Reporter(True))
    assert not sweep.failed
    after = Sweep.of("any", str(tiny), sweep.experiment).plan()
    assert all(row["there"] == row["artifacts"] for row in after["stages"])
    assert after["crops_to_embed"] == 0
    larger = sweep_of(tiny, set=[], grids=[{"over": {"scores.n": [2, 7]}}]).plan()
    raw = next(row for row in larger["stages"] if row["stage"] == "embeddings-raw")
    assert raw["crops"] is larger["crops_to_embed"] is None  # they are not drawn yet
    assert raw["crops_at_most"] == larger["crops_at_most"] == 8 * 4  # blocks of 2: 8 less 4


@pytest.mark.slow
def test_a_sweeps_results_are_those_of_its_runs_alone(
    run_of: Runner, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(tiny, grids=[{"over": {"crops.k": [3, 20], "scores.soft": [True, False]}}])
    sweep.execute(Reporter(True))
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "alone"))
    alone = run_of("crops.k=3", "scores.soft=false")
    expected = make_all(alone)
    (run,) = [r for p, r in sweep.runs if p.values == {"crops.k": 3, "scores.soft": False}]
    scores = run.named("scores")[0]
    assert run.store.open(scores).digest(scores.units(run.store)) == expected["scores"]


@pytest.mark.slow
def test_one_setting_that_fails_is_named_and_the_others_go_on(tiny: Path) -> None:
    sweep = sweep_of(tiny, grids=[{"over": {"crops.layer": [-1, 99], "crops.k": [20, 0]}}])
    assert {point.title for point, _ in sweep.failed} == {
        "crops.layer=-1, crops.k=0", "crops.layer=99, crops.k=0"
    }  # fmt: skip
    sweep.execute(Reporter(True))
    assert len(sweep.failed) == 3
    assert "crops.layer: 99 is not one of" in sweep.failed[-1][1]
    assert set(sweep.table()["crops.layer"]) == {-1}
    answer = said("sweep", "--dataset", tiny, "--over", "crops.layer=-1,99", "--set", *N4)
    assert answer.returncode == 1
    assert "FAILED: crops.layer=99: crops.layer: 99 is not one of" in answer.stdout


def test_a_sweep_of_which_nothing_can_be_run_is_one_line(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown setting 'crops.kk'; did you mean 'k'\?$"):
        sweep_of(tiny, grids=[{"over": {"crops.kk": [1, 2]}}])
    with pytest.raises(ConfigError, match=r"no setting of any can be run; first, crops.k=0: "):
        sweep_of(tiny, grids=[{"over": {"crops.k": [0, "x"]}}])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep", "table4", "-p", "nonsense", "-d", "demo"], "unknown profile 'nonsense'; known:"),
        (["sweep", "table4", "-d", "dmo"], "unknown dataset 'dmo'; did you mean 'demo'?"),
        (["table", "table4", "-d", "dmo"], "unknown dataset 'dmo'; did you mean 'demo'?"),
        (
            ["table", "tabel4", "-d", "demo"],
            "unknown experiment or sweep 'tabel4'; did you mean 'table4'?",
        ),
        (["check", "demo"], "the paper has no row of ABS for demo"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_it(words: list[str], told: str) -> None:
    answer = said(*words)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert answer.stderr.startswith(f"abs: {told}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "words", "index"),
    [
        ("profile: aligned", [], "exact"),
        ("profile: aligned", ["--profile", "paper"], "nearest"),
        ("about: none of its own", [], "corner"),
        ("about: none of its own", ["--profile", "aligned"], "exact"),
        (None, ["--over", "scores.n=4", "--profile", "paper"], "nearest"),
    ],
)
def test_a_profile_that_is_given_stands_in_for_the_experiments(
    tiny: Path, tmp_path: Path, experiment: str | None, words: list[str], index: str
) -> None:
    """Profiles differ in how a patch is found among tokens."""
    path = tmp_path / "experiment.yaml"
    path.write_text(experiment or "")
    name = [path] if experiment else []
    answer = said("sweep", *name, "--dataset", tiny, "--set", "scores.methods=[clip]", "-q", *words)
    assert answer.returncode == 0
    assert load.runs("tiny")["windows.index"].tolist() == [index]


@pytest.mark.slow
def test_sigma_is_over_seeds_that_draw_anew(tiny: Path) -> None:
    sweep = sweep_of(tiny, seeds=3, set=["scores.n=2", "scores.methods=[cupl,abs]"])
    sweep.execute(Reporter(True))
    results, table = sweep.results(), sweep.table().set_index("method")
    assert results.groupby("method").size().to_dict() == {"cupl": 3, "abs": 3}
    assert results["run"].nunique() == 3
    top1 = results[results["method"] == "abs"]["top1"]
    assert table.loc["abs", "top1"] == pytest.approx(top1.mean())
    assert table.loc["abs", "sigma"] == pytest.approx(top1.std(ddof=1))
    assert table.loc["cupl", "sigma"] == 0
    crops = [run.store.open(run.named("crops-raw")[0]).table("crops") for _, run in sweep.runs]
    assert not crops[0]["patch"].equals(crops[1]["patch"])


@pytest.mark.slow
def test_the_command_writes_a_tidy_table(tiny: Path, tmp_path: Path) -> None:
    words = [
        "sweep",
        "--dataset",
        tiny,
        "--over",
        "scores.n=2,4",
        "--over",
        "scores.soft=true,false",
    ]
    planned = json.loads(said(*words, "--dry-run", "--json").stdout)
    assert planned["runs"] == 4
    assert not list((tmp_path / "store").glob("tiny/scores"))
    answer = said(*words)
    assert answer.returncode == 0
    (path,) = (tmp_path / "store" / "tiny" / "sweeps").glob("*.parquet")
    assert f"abs table {path.stem} {tiny}" in answer.stderr
    assert "tiny: 8 images, profile official" in answer.stdout
    table = pd.read_parquet(path)
    assert len(table) == 4 * 3
    assert {"scores.n", "scores.soft", "method", "top1", "sigma", "seeds"} <= set(table)
    again = json.loads(said(*words, "--json").stdout)
    assert again["failed"] == []
    assert len(again["table"]) == len(table)
    assert (again["name"], again["path"]) == (path.stem, str(path))
    assert said("sweep", "--dataset", tiny).returncode == 2
    assert said("sweep", "nonsense", "--dataset", tiny).returncode == 2


@pytest.fixture
def swept_twice(tiny: Path) -> list[dict[str, Any]]:
    """Two sweeps of the command line over the same settings that differ in what they share."""
    words = ["sweep", tiny, "--over", "scores.m=1,2", "--set", "scores.methods=[cupl]", "--json"]
    return [json.loads(said(*words, *more).stdout) for more in ([], ["--set", "scores.soft=false"])]


def test_a_sweep_has_a_name_of_its_content_and_overwrites_no_other(
    swept_twice: list[dict[str, Any]], tiny: Path
) -> None:
    one, other = swept_twice
    assert one["name"] != other["name"]
    listed = json.loads(said("list", "sweeps", tiny, "--json").stdout)
    assert {row["name"] for row in listed} == {one["name"], other["name"]}
    assert {row["settings"] for row in listed} == {one["settings"], other["settings"]}


def test_values_of_settings_are_printed_as_they_are_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Small values are not rounded, null is a value, and a grid says nothing of another's."""
    figures = {"dataset": "any", "method": "abs", "images": 8, "classes": 2, "top1": 0.5, "row": ""}
    given = [(0, None, None), (0, 1e-5, None), (1, None, 0.1234567), (1, None, 5.0)]
    names = ["grid", "scores.settle", "crops.alpha"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) | figures for row in given])
    print_sweep_table(table, "any", "official", "markdown")
    rows = [line.split(" | ")[:2] for line in capsys.readouterr().out.splitlines()[4:]]
    assert rows == [["| null", ""], ["| 1e-05", ""], ["| ", "0.1234567"], ["| ", "5"]]


@pytest.mark.parametrize("style", ["plain", "markdown", "latex", "csv"])
def test_a_stored_sweep_is_printed_again_in_any_form(
    swept_twice: list[dict[str, Any]], tiny: Path, style: str
) -> None:
    one, other = swept_twice
    again = said("table", other["name"][:-2], tiny, "--format", style)
    assert again.returncode == 0, again.stderr
    assert "profile official" in again.stdout
    assert "scores.soft=false" in again.stdout
    rows = json.loads(said("table", one["name"], tiny, "--json").stdout)
    assert rows["table"] == one["table"]


# --- Beside the paper -------------------------------------------------------------------------


def test_the_papers_rows_are_found_with_their_sigma() -> None:
    rows = reported("1", "imagenet")
    ours = rows[(rows["method"] == "ABS") & (rows["backbone"] == "ViT-B/16")]
    assert ours["paper_sigma"].tolist() == [0.03]
    assert rows[rows["method"] != "ABS"]["paper_sigma"].isna().all()
    assert reported("1", "demo").empty


def test_figures_that_are_not_comparable_say_why() -> None:
    marks = reported("3", "imagenet").set_index("method")["mark"]
    assert "1000 images" in marks["TPT"] == marks["DiffTPT"]
    assert "labelled images" in marks["CoOp"]
    assert "evaluated images" in marks["GDA"]
    assert marks["ABS"] == marks["WCA"] == ""
    others = reported("rivals", "imagenet")
    assert set(others["method"]) == {"TDA", "DMN-ZS", "LaZSL"}
    assert (others["source"] != "").all()


@pytest.mark.slow
def test_our_rows_of_other_methods_stand_beside_the_reported(
    made: Run, tiny: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load(tiny.read_text())
    config["dataset"]["name"] = "imagenet"
    path = tmp_path / "imagenet.yaml"
    path.write_text(yaml.safe_dump(config))
    shutil.copytree(made.store.folder, made.store.root / "imagenet")
    methods = "scores.methods=[abs, tda]"
    sweep = Sweep.of("rivals", str(path), Experiment(set=[*N4, methods], paper="rivals"))
    sweep.execute(Reporter(True))
    found = beside_paper(sweep).set_index(["method", "backbone"])
    ours = found.loc["TDA"]["ours"]
    assert ours.notna().sum() == 1
    remark = found.loc[("TDA", "ViT-B/16"), "remark"]
    assert remark == "constants chosen for each dataset"


@pytest.mark.parametrize(
    "name", ["table1", "table2", "table4", "table5", "table6", "table8", "table9", "table10"]
)
def test_rows_of_the_paper_are_those_of_the_experiment(name: str) -> None:
    """Row names of an experiment are those in the file of the paper's figures."""
    for dataset in ("imagenet", "dtd", "cub"):
        experiment = load_experiment(name, dataset)
        theirs = set(reported(experiment.paper, dataset)["row"]) - {""}
        ours = {point.grid.named(point.values) for point in experiment.points()}
        assert theirs <= ours


@pytest.mark.parametrize(
    ("name", "dataset", "backbones"),
    [("table8", "imagenet", {"ALIGN", "AltCLIP", "GroupViT"}), ("table10", "dtd", {"BLIP-2"})],
)
def test_backbones_have_the_names_of_the_paper(
    name: str, dataset: str, backbones: set[str], run_of: Runner
) -> None:
    """Those of the experiment's runs, by their repositories, and of folders called like these."""
    experiment = load_experiment(name, dataset)
    given = [change for change in experiment.set if change.startswith("clip.model=")]
    models = [point.values.get("clip.model", given and given[0]) for point in experiment.points()]
    named = {str(model).removeprefix("clip.model=") for model in models}
    plain = run_of()
    for model in {*named, *(f"local-dir:/weights/{model.rpartition('/')[2]}" for model in named)}:
        clip = plain.settings.clip.model_copy(update={"model": model})
        run = replace(plain, settings=plain.settings.model_copy(update={"clip": clip}))
        assert backbone_of(run) in backbones
    assert set(reported(experiment.paper, dataset)["backbone"]) == backbones
    assert len(named) == len(backbones)


@pytest.mark.slow
def test_a_table_stands_beside_the_papers(tiny: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(tiny.read_text())
    config["dataset"]["name"] = "dtd"
    path = tmp_path / "dtd.yaml"
    path.write_text(yaml.safe_dump(config))
    grid = Grid(over={"scores.soft": [True, False]}, row="F_rs=1 F_fs=1 soft={scores.soft}")
    experiment = Experiment(set=[*N4, "scores.methods=[abs]"], grids=[grid], paper="4")
    sweep = Sweep.of("table4", str(path), experiment)
    empty = beside_paper(sweep)
    assert empty["ours"].isna().all()
    assert len(empty) == 8
    sweep.execute(Reporter(True))
    found = beside_paper(sweep)
    assert found["ours"].notna().sum() == 2
    assert found["paper"].notna().sum() == 8
    assert set(found["remark"]) <= {"", "needs the descriptions that ABS published"}


def test_two_methods_are_compared_image_by_image(run_of: Runner, made: Run, tiny: Path) -> None:
    words = ["--dataset", tiny, "--set", "scores.n=4"]
    scores = made.store.open(made.named("scores")[0]).table("scores")
    right = scores.pivot(index="image_id", columns="method", values="correct")
    found = json.loads(said("compare", "abs", "cupl", *words, "--json").stdout)
    assert found["both"] == int((right["abs"] & right["cupl"]).sum())
    assert found["only_a"] == int((right["abs"] & ~right["cupl"]).sum())
    assert "McNemar" in said("compare", "abs", "cupl", *words).stdout
    cold = said("compare", "abs", "abs@scores.temperature=0.5", *words)
    assert cold.returncode == 1
    assert "abs scores --dataset" in cold.stderr
    make_all(run_of("scores.temperature=0.5"))
    assert said("compare", "abs", "abs@scores.temperature=0.5", *words).returncode == 0
    assert "did you mean 'abs'" in said("compare", "abs", "ab", *words).stderr


def test_small_settings_keep_their_digits(capsys: pytest.CaptureFixture[str]) -> None:
    figures = dict.fromkeys(FIGURES, 0.5)
    rows = [
        {"grid": 0, "scores.settle": p, "row": "", "dataset": "a", "method": "abs", "images": 8,
         "classes": 2, **figures, "crops_used": 10.609375, "sigma": 0.0, "seeds": 2}
        for p in (0.001, 0.0001)
    ]  # fmt: skip
    print_sweep_table(pd.DataFrame(rows), "a", "profile official", "markdown")
    said = capsys.readouterr().out
    for p in ("0.001", "0.0001"):
        assert f"| {p} | abs | 10.61 | 50.00 |" in said


def test_what_figures_are_not_the_papers_is_said_beside_them(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remark = "not as in the paper"
    monkeypatch.setattr(Vision, "remark", remark)
    sweep = sweep_of(tiny, set=[*N4, "scores.methods=[cupl,abs]"])
    sweep.execute(Reporter(True))
    table = sweep.table()
    assert table.set_index("method")["remark"].to_dict() == {"cupl": "", "abs": remark}
    print_sweep_table(table, "tiny", "official", "plain")
    run = sweep.runs[0][1]
    print_results(results(run.store, run.stages[-1]), run)
    lines = capsys.readouterr().out.splitlines()
    assert [remark in line for line in lines if line.startswith("abs")] == [True, False, True]
    assert not [line for line in lines if line.startswith("cupl") and remark in line]


def test_a_changed_experiment_keeps_its_own_settings_before_those_given() -> None:
    own = Experiment(set=["scores.n=4"], seeds=5, grids=[grid_of(["crops.k=5,10"])])
    found = own.changed(["crops.alpha=0.5"], seeds=2)
    assert found.set == ["scores.n=4", "crops.alpha=0.5"]
    assert (found.seeds, found.profile, found.grids) == (2, own.profile, own.grids)
    assert own.changed([]) == own
