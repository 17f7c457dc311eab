"""Seconds of stages are read from the receipts of exactly the units that a row needs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.core.errors import MissingInput
from pipeline.core.layers import CFGS
from pipeline.core.progress import Reporter
from pipeline.run import Run
from pipeline.studies.costs import STEPS, seconds_of, with_seconds
from pipeline.studies.experiments import Experiment, Grid
from pipeline.studies.paper import beside_paper, reported
from pipeline.studies.receipts import scoring_seconds
from pipeline.studies.sweeps import Sweep
from tests.helpers import shared
from tests.helpers.runs import Runner, make_all, said, write_dataset

STAGES = ("attention", "crops", "raw", "feature", "scores")


def counted(run: Run, *names: str, blocks: int | None = None) -> float:
    """The seconds in the receipts of stages as they lie on disk; of the first blocks of crops."""
    total = 0.0
    for name in names:
        (stage,) = run.named(name)
        sealed = run.store.artifact(stage).path / "ledger" / "sealed-1.txt"
        for line in sealed.read_text().splitlines()[:-1]:
            _, unit, receipt = line.split(" ", 2)
            block = unit.partition("-")[2]
            if not blocks or not block or int(block) < blocks:
                total += sum(json.loads(receipt)["seconds"].values())
    return total


@pytest.fixture
def larger(run_of: Runner, made: Run) -> Run:
    """N = 6 in three blocks of crops; N = 4 is a part of it."""
    run = run_of("scores.n=6")
    make_all(run)
    return run


@pytest.mark.slow
def test_a_smaller_n_took_what_its_own_units_took(made: Run, larger: Run) -> None:
    four, six = seconds_of(made, "abs"), seconds_of(larger, "abs")
    assert four["raw"] == pytest.approx(counted(larger, "embeddings-raw", blocks=2))
    assert six["raw"] == pytest.approx(counted(larger, "embeddings-raw"))
    assert 0 < four["raw"] < six["raw"]
    assert four["feature"] == six["feature"]  # every window that could be drawn, whatever N is


def test_a_row_adds_up_the_stages_that_its_method_reads(made: Run) -> None:
    found = seconds_of(made, "abs")
    crops = counted(made, "crops-raw", "crops-feature", "crops-windows")
    assert found["crops"] == pytest.approx(crops)
    assert found["attention"] == pytest.approx(counted(made, "attention"))
    assert found["seconds"] == pytest.approx(sum(found[name] for name in STAGES))
    assert found["ms_per_image"] == pytest.approx(1000 * found["seconds"] / 8)
    plain = seconds_of(made, "clip")
    assert set(plain) == {"image", "scores", "seconds", "ms_per_image", "device"}
    assert plain["image"] == pytest.approx(counted(made, "embeddings-image"))
    assert plain["device"] == found["device"] == "cpu"


def test_what_is_still_to_be_made_has_no_seconds(made: Run, run_of: Runner) -> None:
    with pytest.raises(MissingInput, match=r"crops-raw: not finished: 3 units"):
        seconds_of(run_of("scores.n=6"), "abs")
    (attention,) = made.named("attention")
    made.store.artifact(attention).forget(["00001"])
    with pytest.raises(MissingInput, match=r"attention: not finished: 1 unit"):
        seconds_of(made, "abs")


def timed(tiny: Path) -> Sweep:
    """Two seeds of two methods, whose seconds are measured."""
    methods = ["scores.methods=[cupl,abs]", "scores.n=4"]
    return Sweep.of("timed", str(tiny), Experiment(set=methods, seeds=2, seconds=True))


def test_each_method_has_the_seconds_that_it_took(made: Run, tiny: Path) -> None:
    sweep = timed(tiny)
    sweep.execute(Reporter(True))
    found = []
    for _, run in sweep.runs:
        (stage,) = run.named("scores")
        receipts = run.store.artifact(stage).ledger.receipts().values()  # sealed
        assert all(set(receipt.by_method) == {"cupl", "abs"} for receipt in receipts)
        found.append({n: sum(r.by_method[n] for r in receipts) for n in ("cupl", "abs")})
        assert scoring_seconds(run) == pytest.approx(found[-1])
        assert seconds_of(run, "abs")["scoring_s"] == pytest.approx(found[-1]["abs"])
    table = sweep.table().set_index("method")["scoring_s"]
    for name in ("cupl", "abs"):
        assert table[name] == pytest.approx((found[0][name] + found[1][name]) / 2)


def test_receipts_without_seconds_of_methods_stay_as_they_were(made: Run) -> None:
    (stage,) = made.named("scores")
    ledger = made.store.artifact(stage).ledger
    texts = ledger.sealed()
    assert all("by_method" not in json.loads(text) for text in texts.values())
    assert scoring_seconds(made) == {}
    assert "scoring_s" not in seconds_of(made, "abs")


def table9(tiny: Path) -> Sweep:
    grid = Grid(over={"scores.n": [10, 20]}, row="N={scores.n}")
    methods = "scores.methods=[clip,abs]"
    experiment = Experiment(set=[methods, "layout.crops=10"], grids=[grid], paper="9")
    return Sweep.of("table9", str(tiny), experiment)


@pytest.mark.slow
def test_seconds_stand_beside_the_papers(tiny: Path) -> None:
    sweep = table9(tiny)
    empty = with_seconds(beside_paper(sweep), sweep)
    assert empty.empty
    sweep.execute(Reporter(True))
    found = with_seconds(beside_paper(sweep), sweep).set_index(["row", "method"])
    first = found.loc[("N=10", "ABS")]
    assert [first[name] for name in STEPS.values()] == pytest.approx([1.1, 9.4, 10.5])
    assert first["remark"] == "machines differ (cpu; NVIDIA 4090, ViT-B/16)"
    assert found.loc[("N=20", "CLIP"), "paper_ms"] == pytest.approx(0.8)
    assert found["ms_per_image"].tolist() == pytest.approx(found["seconds"] * 1000 / 8)
    assert first["raw"] < found.loc[("N=20", "ABS"), "raw"]
    assert pd.isna(first["image"])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset over which Table 9 was swept; the store lies beside its YAML."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
            table9(write_dataset(folder)).execute(Reporter(True))

    return shared.once(tmp_path_factory, "table9", make) / "tiny.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("style", ["plain", "markdown", "latex", "csv"])
def test_table9_shows_seconds_in_every_format(
    style: str, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", str(swept.parent / "store"))
    sweep, path = table9(swept), tmp_path / "timed.yaml"
    path.write_text(yaml.safe_dump(sweep.experiment.model_dump() | {"seconds": True}))
    answer = said("table", path, "--dataset", swept, "--format", style)
    assert answer.returncode == 0
    for word in ("ms", "attention", "feature", "machines differ (cpu; "):
        assert word in answer.stdout
    if style == "csv":
        table = pd.read_csv(io.StringIO(answer.stdout))
        assert table["ms_per_image"].notna().all()
        path.write_text(yaml.safe_dump(sweep.experiment.model_dump()))
        plain = said("table", path, "--dataset", swept, "--format", style).stdout
        assert "ms_per_image" not in plain


def test_the_papers_seconds_add_up_and_belong_to_its_rows() -> None:
    rows = pd.read_csv(CFGS / "reported_seconds.csv", dtype={"table": str}, keep_default_na=False)
    table = rows.pivot(index=["method", "setting"], columns="step", values="seconds")
    assert (table["crop+preprocess"] + table["encoding"]).tolist() == pytest.approx(table["total"])
    known = reported("9", "imagenet")
    assert set(table.index) == set(zip(known["method"], known["row"], strict=True))
