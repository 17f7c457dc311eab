"""`abs explain`: numbers are those of the store, and what users wrote stays text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest

from pipeline import load
from pipeline.cli.explain_tables import print_deciding, visible
from pipeline.explain.deciding import Deciding
from pipeline.explain.explanation import Branch, Explanation
from pipeline.run import Run
from tests.helpers.runs import said

SMALL = ("--set", "scores.n=4")
ODD = ["[red]a[/] <b>&\"'", "\x1b[31mb\u202ec", "c" * 300]
"""Class names that would be markup, control codes, or very long."""


def drawn(classes: int, views: int, texts: int, seed: int = 0) -> Explanation:
    """An explanation of random weights and cosines."""
    rng = np.random.default_rng(seed)
    weights, cosines = rng.normal(size=(2, views, classes, texts))
    place = {"space": "pixels", "left": 0, "top": 0, "right": 9, "bottom": 9}
    places = pd.DataFrame([place] * views)
    branch = Branch(np.arange(views), np.ones(views), places, weights, cosines)
    rows = [(c, t, f"{ODD[t % 3]} {t}") for c in range(classes) for t in range(texts)]
    scores = pd.Series((weights * cosines).sum(axis=(0, 2)), index=range(classes))
    table = pd.DataFrame(rows, columns=["label", "position", "text"])
    names = (ODD * classes)[:classes]
    return Explanation(0, ODD[1], 1, "abs", scores, names, table, {"raw": branch})


@pytest.mark.parametrize(("views", "texts"), [(3, 2), (99, 99)])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_row_of_others_completes_the_sum(classes: int, views: int, texts: int) -> None:
    one = drawn(classes=classes, views=7, texts=4)
    found = (
        Deciding.of(one, views, texts) if classes > 1 else Deciding.of(_alone(one), views, texts)
    )
    both = 1 if classes == 1 else 2
    assert len(found.texts) == both * min(texts, 4)
    assert len(found.views) == min(views, 7)
    for name in ("predicted", "rival", "difference"):
        total = found.views[name].sum() + found.others[name]
        assert total == pytest.approx(one_sum(found, name), abs=1e-12)
    contributions = found.explanation.branches["raw"].contributions
    for column, row in zip(found.cells.T, found.texts.itertuples(), strict=True):
        assert column.sum() == pytest.approx(contributions[:, row.label, row.position].sum())
        assert column.sum() == pytest.approx(row.contribution)
    sizes = found.views["difference"].abs().tolist()
    assert sizes == sorted(sizes, reverse=True)


def _alone(one: Explanation) -> Explanation:
    """With the only class as label, so that there is no rival."""
    return Explanation(0, one.image_id, 0, "abs", one.scores, one.names, one.texts, one.branches)


def one_sum(found: Deciding, name: str) -> float:
    one = found.explanation
    scores = {"predicted": float(one.scores[one.predicted]), "difference": found.margin}
    scores["rival"] = scores["predicted"] - scores["difference"]
    return scores[name]


def test_odd_names_stay_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_deciding(Deciding.of(drawn(classes=3, views=2, texts=3)))
    said = capsys.readouterr().out
    assert ODD[0] in said
    assert "\\x1b[31mb\\u202ec" in said
    assert not any(c in said for c in "\x1b\u202e")
    assert visible("naïve 鳥") == "naïve 鳥"


def test_json_has_the_stored_scores(made: Run, tiny: Path) -> None:
    done = said("explain", "black-eyed_forktail/01.png", tiny, *SMALL, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    stored = load.scores("tiny", "abs").set_index("image_id").loc[found["image_id"]]
    assert (found["image"], found["method"]) == (5, "abs")
    assert found["predicted"]["label"] == stored["pred"]
    assert found["label"]["class"] == "black-eyed forktail"
    assert found["margin"] == pytest.approx(abs(stored["margin"]), abs=1e-6)
    assert len(found["views"]) == 8
    assert sum(view["difference"] for view in found["views"]) == pytest.approx(
        found["margin"], abs=2e-6
    )


def test_the_table_ends_with_the_stored_scores(made: Run, tiny: Path) -> None:
    done = said("explain", "2", tiny, *SMALL, "--views", "3", "--texts", "2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    scores = load.explainer("tiny").explain(2)
    total = next(line for line in lines if line.startswith("sum")).split()
    assert total[2] == f"{scores.scores[scores.predicted]:.4f}"
    assert total[3] == f"{scores.scores[scores.rival]:.4f}"
    assert [line for line in lines if line.startswith("5 others")]
    assert [line[:2] for line in lines if line[1:3] == "  "] == ["A ", "B ", "C ", "D "]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["99"], 2, "no image 99; images are numbered from 0 to 7"),
        (["00.png"], 2, "is the end of 2 paths"),
        (["0", "--method", "wca"], 2, "method 'wca' is not scored; known: abs, clip, cupl"),
        (["0", "--set", "crops.k=3"], 1, "the nearest of 1 has crops.k 20 instead of 3; run: abs"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    made: Run, tiny: Path, words: list[str], code: int, message: str
) -> None:
    done = said("explain", *words, *SMALL, "--dataset", tiny)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, "")
    assert message in done.stderr


def test_a_copy_elsewhere_is_explained_without_its_images(made: Run, tiny: Path) -> None:
    here = said("explain", "3", tiny, *SMALL, "--json")
    there = fsspec.filesystem("memory")
    there.put(str(made.store.root), "/copied/artifacts", recursive=True)
    shutil.rmtree(tiny.parent / "images")
    try:
        found = said(
            "explain", "3", "tiny", *SMALL, "--store", "memory://copied/artifacts", "--json"
        )
    finally:
        there.rm("/copied", recursive=True)
    assert found.returncode == here.returncode == 0, found.stderr + here.stderr
    there_found, here_found = json.loads(found.stdout), json.loads(here.stdout)
    assert "clip.model" in there_found.pop("differences")  # of a dataset that is not configured
    assert here_found.pop("differences") == {}
    assert there_found == here_found


def test_the_nearest_run_is_explained_and_what_differs_is_said(made: Run, tiny: Path) -> None:
    done = said("explain", "3", tiny, "--views", "1")
    assert done.returncode == 0
    assert done.stderr == "the nearest of 1 finished runs has scores.n 4 instead of 20\n"
    done = said("explain", "3", tiny, "--json")
    assert json.loads(done.stdout)["differences"] == {"scores.n": {"asked": 20, "stored": 4}}


@pytest.mark.slow
def test_html_is_the_crop_explorer_of_the_image_alone(made: Run, tiny: Path) -> None:
    folder = tiny.parent / "page"
    done = said("explain", "black-eyed_forktail/01.png", tiny, *SMALL, "--html", folder)
    assert (done.returncode, done.stderr) == (0, "")
    page = Path(done.stdout.splitlines()[-1])
    assert page.parent == folder
    assert "black-eyed_forktail/01.png" in page.read_text()
    assert "black-eyed_fantail" not in page.read_text().replace("black-eyed fantail", "")
