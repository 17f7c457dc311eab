"""Contributions add up to the stored scores, and are those of a sum written out here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest

from pipeline import load
from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.files import write_json
from pipeline.explain.explainer import Explainer
from pipeline.methods.abs import Abs
from pipeline.methods.base import MethodInputs, Weigher
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS
from pipeline.methods.wca import Wca
from pipeline.report.choice import Choice
from pipeline.report.stored import find_run
from pipeline.report.write import write_report
from pipeline.run import Run
from tests.helpers import shared
from tests.helpers.further_methods import FURTHER
from tests.helpers.runs import make_all, write_dataset
from tests.report.test_pages import data_of

pytestmark = pytest.mark.slow

OWN = ["clip", "cupl", "wca", "abs"]
PLAIN: dict[str, Any] = {
    **{f"scores.{name}": True for name in ("raw", "feature", "soft")},
    **{"scores.expectation": False, "scores.m": 50, "scores.classes": "all"},
    "windows.draws": "independent",
    "scores.methods": OWN,
}
"""Settings that the ones below change."""
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "expectation": {"scores.expectation": True},
    "few texts": {"scores.m": 2},
    "no soft matching": {"scores.soft": False},
    "whole image": {"scores.raw": False, "scores.feature": False},
    "present classes": {"scores.classes": "present"},
    "drawn windows": {"windows.draws": "joint", "windows.encode": "drawn", "windows.shape": "box"},
}
"""Changes under which scores are explained, by a name for each."""
CLASSES = [
    "red-billed hookbill", "black-eyed fantail", "blue-billed hookbill", "black-eyed forktail"
]  # fmt: skip
"""Competing classes; the second and the last have images."""
N = 4
"""Crops per branch."""
RIVALS = [
    *("mta", "awt", "mta-crops", "awt-crops", "lazsl-crops", "bifta-views"),
    *("zero-crops", "tda"),
]
"""Methods of other papers."""
WHY = {"zero-crops": "views vote", "tda": "they depend on other images"}
"""Why two of them do not explain their scores."""
RIVAL_SETTINGS = [
    *("methods.mta.n=5", "methods.awt.n=5"),
    *(f"methods.bifta-views.{given}" for given in ("overlap=0.5", "pool=12", "n=7")),
]


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run under each of `CHANGES`."""

    def make(folder: Path) -> None:
        dataset = str(write_dataset(folder))
        write_json(folder / "classes.json", CLASSES)
        common = [f"scores.n={N}", f"scores.methods={json.dumps(OWN)}"]
        common.append(f"dataset.vocabulary={folder / 'classes.json'}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
            for change in CHANGES.values():
                words = [f"{name}={json.dumps(value)}" for name, value in change.items()]
                make_all(Run.of(dataset, "official", [*common, *words]))
            make_all(
                Run.of(
                    dataset,
                    "official",
                    [*common, f"scores.methods={json.dumps(RIVALS)}", *RIVAL_SETTINGS],
                )
            )

    return shared.once(tmp_path_factory, "explained", make) / "store"


@pytest.fixture(autouse=True)
def _in_the_store(scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", str(scored))


# --- Sums ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", ["clip", "cupl", "wca", "abs"])
def test_contributions_add_up_to_the_stored_scores(method: str, change: str) -> None:
    explainer = load.explainer("tiny", method, **PLAIN | CHANGES[change])
    logits = explainer.scores.array("logits")
    place = logits.attrs["methods"].index(method)
    for image in (0, 3, 7):
        stored = dict(zip(logits.attrs["labels"], logits[image, place].tolist(), strict=True))
        assert set(stored) == {1, 3}
        found = explainer.explain(image)
        for table in (found.by_text(), found.by_class()):
            sums = table.groupby("label")["contribution"].sum()
            assert sums.to_dict() == pytest.approx(stored, abs=1e-6)
        margin = stored[found.predicted] - stored[found.rival]
        assert found.by_view()["difference"].sum() == pytest.approx(margin, abs=2e-6)


@pytest.mark.parametrize(
    ("method", "branches"),
    [
        ("mta", {"image", "augmented"}),
        ("awt", {"image", "augmented"}),
        ("mta-crops", {"image", "raw", "feature"}),
        ("awt-crops", {"image", "raw", "feature"}),
        ("lazsl-crops", {"image", "raw", "feature"}),
        ("bifta-views", {"squares"}),
    ],
)
def test_contributions_of_other_papers_methods_add_up(method: str, branches: set[str]) -> None:
    explainer = load.explainer("tiny", method, **{"scores.methods": RIVALS})
    logits = explainer.scores.array("logits")
    for image in (1, 6):
        table = explainer.explain(image).by_text()
        assert set(table["branch"]) == branches
        sums = table.groupby("label")["contribution"].sum()
        stored = logits[image, RIVALS.index(method)]
        assert sums.to_numpy() == pytest.approx(stored, abs=1e-6)
        assert (table["weight"] >= 0).all()


@pytest.mark.parametrize("method", WHY)
def test_methods_that_are_no_sum_of_cosines_say_why(method: str) -> None:
    said = f"method '{method}' does not explain its scores: {WHY[method]}"
    with pytest.raises(ConfigError, match=said):
        load.explainer("tiny", method, **{"scores.methods": RIVALS})


@pytest.mark.parametrize("method", RIVALS)
def test_the_crop_explorer_shows_their_crops_or_says_why_not(
    scored: Path, tmp_path: Path, method: str
) -> None:
    run = find_run("tiny", overrides=[f"scores.methods={json.dumps(RIVALS)}"], place=scored)
    write_report(run, tmp_path / "report", Choice(["1"]), (method, None), lambda _: None)
    (entry,) = data_of(tmp_path / "report", "crops.html")["entries"]
    if method in WHY:
        assert WHY[method] in entry["unexplained"]
        assert entry["branches"] == {}
        return
    assert "unexplained" not in entry
    added = [crop["added"][0] for b in entry["branches"].values() for crop in b["crops"]]
    place = entry["classes"].index(entry["pred"])
    assert sum(added) == pytest.approx(entry["scores"][method][place], abs=1e-5)


def vectors(name: str, image: int) -> np.ndarray:
    """Stored vectors of an image's views, float64 (views, dim)."""
    return np.asarray(load.embeddings("tiny", name, **PLAIN)[image], np.float64)


def texts(name: str) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Label and position of each text of a set, and its vector in float64."""
    table = load.texts("tiny", name)
    places = list(zip(table["label"], table["position"], strict=True))
    return places, np.asarray(load.text_embeddings("tiny", name)[:], np.float64)


def test_abs_weighs_by_a_softmax_over_all_texts_of_all_classes() -> None:
    found = load.explain("tiny", 5, **PLAIN)
    places, text = texts("cupl")
    outcome = load.crops("tiny", "feature", **PLAIN).query("image == 5")["outcome"].to_numpy()
    views = {"raw": vectors("raw", 5)[:N], "feature": vectors("feature", 5)[outcome[:N]]}
    expected = {}
    for branch, view in ((name, i) for name in views for i in range(N)):
        cosine = text @ views[branch][view]
        exponentials = np.exp(cosine / (0.03 / 0.26661))
        for (label, position), c, e in zip(places, cosine, exponentials, strict=True):
            if label in (1, 3):
                expected[branch, view, label, position] = c * e / exponentials.sum()
    rows = found.set_index(["branch", "view", "label", "position"])["contribution"]
    assert rows.to_dict() == pytest.approx(expected, abs=1e-12)


def test_a_mean_text_gives_each_of_its_texts_a_part() -> None:
    found = load.explain("tiny", 2, "cupl", **PLAIN).set_index(["label", "position"])
    places, text = texts("cupl")
    for label in (1, 3):
        own = [i for i, place in enumerate(places) if place[0] == label]
        length = np.linalg.norm(text[own].sum(axis=0))
        for i in own:
            expected = text[i] @ vectors("image", 2)[0] / length
            assert found.loc[places[i], "contribution"] == pytest.approx(expected, abs=1e-12)


def test_wca_gives_nothing_to_squares_that_were_not_drawn() -> None:
    explainer = load.explainer("tiny", "wca", **PLAIN)
    drawn = set(Wca(pool=4, n=3).drawn())
    assert drawn < set(range(4))
    table = explainer.explain(0).by_class().groupby("view")["contribution"].sum()
    assert set(table.index[table != 0]) == drawn


# --- Tables -------------------------------------------------------------------------------------


def test_rows_name_view_class_and_text_as_they_are_stored() -> None:
    found = load.explain("tiny", 0, **PLAIN)
    stored = load.texts("tiny").set_index(["label", "position"])["text"]
    own = stored[stored.index.get_level_values("label").isin([1, 3])]
    assert len(found) == 2 * N * len(own)
    for row in found.sample(20, random_state=0).itertuples():
        assert row.text == stored[row.label, row.position]
        assert row[found.columns.get_loc("class") + 1] == CLASSES[row.label]
        assert row.contribution == row.weight * row.cosine
    assert load.explain("tiny", 0, by="class", **PLAIN)["class"].isin(CLASSES).all()


def test_views_lie_where_they_were_drawn() -> None:
    found = load.explain("tiny", 6, by="view", **PLAIN)
    for branch, space in (("raw", "pixels"), ("feature", "tokens")):
        rows = found[found["branch"] == branch]
        assert set(rows["space"]) == {space}
        stored = load.crops("tiny", branch, **PLAIN).query("image == 6").head(N)
        kind = "box" if branch == "raw" else "window"
        for end in ("left", "top", "right", "bottom"):
            assert rows[end].tolist() == stored[f"{kind}_{end}"].tolist()
    image = load.images("tiny").iloc[6]
    whole = load.explain("tiny", 6, "clip", by="view", **PLAIN)
    assert whole[["left", "top", "right", "bottom"]].to_numpy().tolist() == [
        [0, 0, image["width"], image["height"]]
    ]


def test_in_expectation_views_are_all_windows_that_can_be_drawn() -> None:
    found = load.explain("tiny", 1, by="view", **PLAIN | CHANGES["expectation"])
    windows = load.crops("tiny", "windows", **PLAIN).query("image == 1")
    feature = found[found["branch"] == "feature"]
    assert feature["left"].tolist() == windows["window_left"].tolist()
    assert feature["count"].sum() == pytest.approx(N)
    assert feature["count"].nunique() > 1


def test_the_rival_is_the_label_of_a_wrong_image_or_else_the_second_class() -> None:
    scores = load.scores("tiny", **PLAIN)
    correct = set()
    for method in ("clip", "abs"):
        explainer = load.explainer("tiny", method, **PLAIN)
        for row in scores[scores["method"] == method].itertuples():
            found = explainer.explain(row.image_id)
            assert (found.predicted, found.label) == (row.pred, row.label)
            assert found.rival == 4 - row.pred
            correct.add(bool(row.correct))
    assert correct == {True, False}
    with pytest.raises(ConfigError, match="no table by 'veiw'; did you mean 'view'"):
        found.table("veiw")


def test_only_classes_with_a_score_can_be_asked_for() -> None:
    found = load.explainer("tiny", **PLAIN).explain(0)
    assert set(found.by_text([3])["label"]) == {3}
    other = found.by_view(rival=found.predicted)
    assert not other["difference"].any()
    for ask in (lambda: found.by_view(rival=2), lambda: found.by_text([1, 2])):
        with pytest.raises(ConfigError, match="no class 2 is scored; labels: 1, 3"):
            ask()


# --- What cannot be explained -------------------------------------------------------------------


def test_a_method_that_does_not_explain_itself_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = load.explainer("tiny", **PLAIN).scores
    with pytest.raises(ConfigError, match="method 'ab' is not scored; did you mean 'abs'"):
        Explainer.of(scores, "ab")
    monkeypatch.setitem(METHODS, "abs", FURTHER["voting"])
    with pytest.raises(ConfigError, match="method 'abs' does not explain its scores"):
        Explainer.of(scores, "abs")
    with pytest.raises(NotImplementedError, match="Voting does not explain its scores"):
        FURTHER["voting"]().weigher(MethodInputs({}, ScoresConfig()))


def test_contributions_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    weigher = Abs.weigher

    def doubled(self: Abs, inputs: MethodInputs) -> Weigher:
        return lambda views: {n: 1.001 * w for n, w in weigher(self, inputs)(views).items()}

    monkeypatch.setattr(Abs, "weigher", doubled)
    with pytest.raises(AbsError, match=r"00\.png: the stored scores of abs are not the sum"):
        load.explain("tiny", 0, **PLAIN)


# --- Reading only -------------------------------------------------------------------------------


def test_nothing_is_written_and_a_copy_elsewhere_is_explained_alike(scored: Path) -> None:
    def state() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in (scored / "tiny").rglob("*")}

    before = state()
    here = load.explain("tiny", 3, **PLAIN)
    assert state() == before
    there = fsspec.filesystem("memory")
    there.put(str(scored / "tiny"), "/explained/tiny", recursive=True)
    try:
        found = load.explain("tiny", 3, store="memory://explained", **PLAIN)
        pd.testing.assert_frame_equal(found, here)
    finally:
        there.rm("/explained", recursive=True)
