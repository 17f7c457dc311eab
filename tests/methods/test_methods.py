"""Methods by themselves, the components of ABS, and whether the interface is wide enough."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter
from pipeline.datasets.classes import Classes
from pipeline.engine.runner import run_stage
from pipeline.kernels.matching import Descriptions
from pipeline.methods.base import MethodInputs, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS
from pipeline.run import Run
from pipeline.store.units import Unit
from pipeline.views.readers import ViewReader
from stages.scores import ScoresWorker
from tests.helpers.further_methods import FURTHER, Greedy, Transport
from tests.helpers.runs import Runner, digests, make_all, write_dataset
from tests.reference.case import array, stored_texts, table

COUNTS = (3, 1, 4)
"""Descriptions of each of three classes."""
LABELS = torch.from_numpy(np.repeat(np.arange(len(COUNTS)), COUNTS))
MEAN = ("clip", "clip-e", "clip-d", "waffle", "cupl")


def unit(*shape: int) -> np.ndarray:
    vectors = np.random.default_rng(sum(shape)).normal(size=shape)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def score(
    method: str,
    config: ScoresConfig,
    views: dict[str, np.ndarray],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Scores of a method's own settings, of the same texts in every set."""
    texts = Descriptions.from_rows(torch.from_numpy(unit(8, 5)), LABELS, len(COUNTS))
    scorer = METHODS[method]().scorer(
        MethodInputs(dict.fromkeys(METHODS[method].texts, texts), config)
    )
    weighed = None if weights is None else torch.from_numpy(weights)
    given = {name: ViewVectors(torch.from_numpy(view), weighed) for name, view in views.items()}
    return np.asarray(scorer(slice(0, 4), given).numpy())


def means(count: int | None = None) -> np.ndarray:
    """The renormalised mean text of each class, of its first texts."""
    parts = np.split(unit(8, 5), np.cumsum(COUNTS)[:-1])
    found = np.stack([part[:count].sum(axis=0) for part in parts])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


# --- By themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", MEAN)
def test_a_mean_text_method_is_a_cosine(method: str) -> None:
    """Of all texts, whatever ABS is limited to."""
    image = unit(4, 1, 5)
    found = score(method, ScoresConfig(m=1), {"image": image})
    assert found == pytest.approx(image[:, 0] @ means().T, abs=1e-12)
    assert METHODS[method].texts == (method,)


def test_without_soft_matching_views_meet_the_mean_text() -> None:
    raw, feature = unit(4, 6, 5), unit(4, 7, 5)
    crops = np.concatenate([raw, feature], axis=1)
    for count in (None, 2, 1):
        config = ScoresConfig(n=7, m=count, soft=False)
        found = score("abs", config, {"feature": feature, "raw": raw})
        assert found == pytest.approx((crops @ means(count).T).sum(axis=1), abs=1e-12)


def test_without_any_component_abs_is_cupl() -> None:
    off = ScoresConfig(raw=False, feature=False, soft=False)
    views = {"image": unit(4, 1, 5)}
    assert np.array_equal(score("abs", off, views).round(12), score("cupl", off, views).round(12))


@pytest.mark.parametrize("soft", [True, False])
def test_a_view_counts_as_often_as_its_weight_says(soft: bool) -> None:
    config, views = ScoresConfig(n=3, raw=False, soft=soft, temperature=0.1), unit(4, 3, 5)
    weights = np.tile([2.0, 0.0, 1.0], (4, 1))
    repeated = views[:, [0, 0, 2]]
    found = score("abs", config, {"feature": views}, weights)
    assert found == pytest.approx(score("abs", config, {"feature": repeated}), abs=1e-12)


def test_methods_say_what_they_read() -> None:
    config = ScoresConfig(n=7)
    assert METHODS["abs"]().views(config) == {"feature": 7, "raw": 7}
    assert METHODS["abs"]().views(ScoresConfig(n=7, raw=False)) == {"feature": 7}
    assert METHODS["abs"]().views(ScoresConfig(raw=False, feature=False)) == {"image": 1}
    assert METHODS["wca"].model_validate({"pool": 9}).views(config) == {"image": 1, "squares": 9}
    for method in MEAN:
        assert METHODS[method]().views(config) == {"image": 1}


# --- Probabilities ----------------------------------------------------------------------------


def probabilities(method: str, scores: np.ndarray, config: ScoresConfig) -> np.ndarray:
    found = METHODS[method]().probabilities(torch.from_numpy(scores), config)
    return np.asarray(found.numpy())


OTHERWISE = {"dmn-zs", "zero", "zero-crops"}
"""Methods whose scores are no cosines."""


@pytest.mark.parametrize("method", sorted(set(METHODS) - OTHERWISE))
@pytest.mark.parametrize("logit_scale", [100.0, 26.66])
def test_probabilities_are_what_the_logit_scale_makes_of_a_cosine(
    method: str, logit_scale: float
) -> None:
    cosines = np.random.default_rng(0).uniform(-0.3, 0.4, (5, 7))
    views = 2 * 9 if method == "abs" else 1
    found = probabilities(method, cosines * views, ScoresConfig(n=9, logit_scale=logit_scale))
    for row, expected in zip(found, cosines, strict=True):
        weights = [math.exp(logit_scale * cosine) for cosine in expected]
        assert row == pytest.approx([each / math.fsum(weights) for each in weights], rel=1e-9)


@pytest.mark.parametrize(
    ("switches", "views"),
    [
        ({}, 12),
        ({"soft": False}, 12),
        ({"raw": False}, 6),
        ({"feature": False}, 6),
        ({"raw": False, "feature": False}, 1),
    ],
)
def test_views_that_agree_are_as_sure_as_one(switches: dict[str, bool], views: int) -> None:
    cosines = np.array([[0.31, 0.27, 0.3]])
    found = probabilities("abs", cosines * views, ScoresConfig(n=6, **switches))
    assert found == pytest.approx(probabilities("cupl", cosines, ScoresConfig()), rel=1e-9)


# --- Classes of the same texts ----------------------------------------------------------------

CLASSES, TEXTS, DIM, IMAGES = 365, 20, 128, 8


TWINS = 5, 362


def worker(method: str) -> ScoresWorker:
    """A worker over random vectors, in which two distant classes have the same texts."""
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(CLASSES, TEXTS, DIM), dim=-1)
    vectors[TWINS[1]] = vectors[TWINS[0]]
    labels = torch.arange(CLASSES).repeat_interleave(TEXTS)
    texts = Descriptions.from_rows(vectors.flatten(0, 1), labels, CLASSES)
    names = tuple(f"class {label % TWINS[1]}" for label in range(CLASSES))
    classes = Classes(names, tuple((name,) for name in names), (True,) * CLASSES)
    ids = [str(i) for i in range(IMAGES)]
    images = pd.DataFrame({"image_id": ids, "label": TWINS[0], "sha256": ids})
    crops = F.normalize(torch.randn(IMAGES, 100, DIM), dim=-1).half().numpy()
    views = {name: ViewReader(name, crops, 100) for name in ("image", "raw", "squares")}
    config = ScoresConfig(methods=(method,), n=60, feature=False)
    chosen = {method: METHODS[method]()}
    sets = dict.fromkeys(chosen[method].texts, texts)
    return ScoresWorker(config, chosen, IMAGES, images, classes, sets, views, torch.device("cpu"))


@pytest.mark.parametrize("method", ["cupl", "wca", "abs"])
def test_twins_tie(method: str) -> None:
    made = worker(method)
    unit = Unit("00000", slice(0, IMAGES))
    logits = made.compute(unit, made.read(unit))["logits"][:, 0]
    assert np.array_equal(logits[:, TWINS[0]], logits[:, TWINS[1]])
    assert len(np.unique(logits[0])) == CLASSES - 1


# --- The components of ABS --------------------------------------------------------------------


@pytest.mark.slow
def test_the_eight_component_rows_need_no_new_encoding(run_of: Runner, made: Run) -> None:
    logits = {}
    for raw, feature, soft in product((True, False), repeat=3):
        run = run_of(f"scores.raw={raw}", f"scores.feature={feature}", f"scores.soft={soft}")
        outcomes = run.execute(run.stages, [], quiet=True)
        assert {o.stage for o in outcomes if o.computed} <= {"scores", "metrics"}
        logits[raw, feature, soft] = array(run, "scores", "logits")[:, 2]
    pairs = list(product(logits, repeat=2))
    assert all(np.array_equal(logits[a], logits[b]) == (a == b) for a, b in pairs)
    only, other = logits[True, False, True], logits[False, True, True]
    assert logits[True, True, True] == pytest.approx(only + other, abs=1e-4)


# --- Methods to come --------------------------------------------------------------------------

WIDE = f"scores.methods=[clip, abs, {', '.join(FURTHER)}]"
Made = Callable[..., Run]


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Iterator[Made]:
    """Makes runs of five more methods; they share a store, in which ABS is finished."""
    folder = tmp_path_factory.mktemp("further")
    shutil.copytree(finished, folder / "store")
    dataset = str(write_dataset(folder))

    def make(*changes: str) -> Run:
        run = Run.of(dataset, "official", ["scores.n=4", WIDE, *changes])
        make_all(run)
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
        for name, method in FURTHER.items():
            patch.setitem(METHODS, name, method)
        yield make


def scores_of(run: Run, method: str) -> np.ndarray:
    return array(run, "scores", "logits")[:, list(run.settings.chosen).index(method)]


@pytest.mark.slow
def test_further_methods_run_like_any_other(further: Made) -> None:
    run = further()
    views = {"image": 1, "raw": 4, "feature": 4, "squares": 4}
    assert run.settings.views == views
    assert {stage.name for stage in run.stages if stage.kind == "embeddings"} == {
        f"embeddings-{name}" for name in views
    }
    metrics = table(run, "metrics", "metrics")
    assert metrics["method"].tolist() == ["clip", "abs", *FURTHER]
    assert metrics["scores.methods.transport.steps"].tolist() == [5] * 7
    logits = array(run, "scores", "logits")
    assert logits.shape == (8, 7, 2)
    rows = logits.reshape(8, 7, 2).transpose(1, 0, 2).reshape(7, -1)
    assert len({tuple(row) for row in rows.round(6).tolist()}) == 7


@pytest.mark.slow
def test_others_score_as_they_do_without_them(further: Made) -> None:
    alone = further("scores.methods=[abs]")
    assert np.array_equal(scores_of(alone, "abs"), scores_of(further(), "abs"))


def test_a_setting_of_a_method_concerns_its_scores_alone(further: Made) -> None:
    before, after = further(), further("methods.transport.steps=9")
    keys = {stage.name: stage.key for stage in before.stages}
    changed = {stage.name for stage in after.stages if stage.key != keys[stage.name]}
    assert changed == {"scores", "metrics"}
    for method in before.settings.chosen:
        same = np.array_equal(scores_of(before, method), scores_of(after, method))
        assert same == (method != "transport")
    assert after.settings.chosen["transport"] == Transport(steps=9)


def test_optimal_transport_against_plain_loops(further: Made) -> None:
    run = further()
    raw, texts = array(run, "embeddings-raw")[:, :4].astype(float), stored_texts(run, "cupl")
    for i, c in product(range(8), range(2)):
        likeness = raw[i] @ np.array(texts[c]).T
        plan = np.exp(10 * likeness)
        for _ in range(5):
            for row in plan:
                row *= 1 / len(plan) / row.sum()
            for column in plan.T:
                column *= 1 / plan.shape[1] / column.sum()
        assert plan.sum() == pytest.approx(1)
        assert scores_of(run, "transport")[i, c] == pytest.approx((plan * likeness).sum(), abs=1e-5)


def test_a_cache_speaks_of_earlier_images_alone(further: Made) -> None:
    run = further()
    image = array(run, "embeddings-image")[:, 0].astype(float)
    parts = [np.sum(group, axis=0) for group in stored_texts(run, "cupl")]
    classes = np.array([part / np.linalg.norm(part) for part in parts])
    own = image @ classes.T
    for i in range(8):
        expected = own[i].copy()
        for j in range(i):
            expected[own[j].argmax()] += math.exp(5 * (image[i] @ image[j] - 1))
        assert scores_of(run, "cache")[i] == pytest.approx(expected, abs=1e-5)


def test_a_gaussian_classifier_sees_all_images_and_no_label(further: Made) -> None:
    run = further()
    image = array(run, "embeddings-image")[:, 0].astype(float)
    classes = np.array([group[0] for group in stored_texts(run, "clip")])
    inverse = np.linalg.inv(np.cov(image.T) + 0.1 * np.eye(image.shape[1]))
    expected = [[(x - mu / 2) @ inverse @ mu for mu in classes] for x in image]
    assert scores_of(run, "gaussian") == pytest.approx(np.array(expected), abs=1e-3)


def test_votes_are_whole_and_modes_lie_among_the_views(further: Made) -> None:
    run = further("methods.voting.share=0.75", "methods.mean-shift.steps=0")
    votes = scores_of(run, "voting")
    assert (votes.sum(axis=1) == 3).all()
    assert np.array_equal(votes, votes.round())
    modes = further("methods.mean-shift.bandwidth=1e-4", "methods.mean-shift.steps=50")
    assert np.abs(scores_of(modes, "mean-shift")).max() <= 1


@pytest.mark.slow
def test_scores_do_not_depend_on_how_images_are_divided(further: Made) -> None:
    """Up to the rounding of vectors that were embedded in other batches."""
    small, large = further(), further("layout.images=8")
    for method in FURTHER:
        apart = np.abs(scores_of(small, method) - scores_of(large, method)).max()
        assert apart <= 1e-2, method


def test_a_unit_that_is_scored_again_alone_says_the_same(further: Made) -> None:
    run = further()
    before, scores = digests(run), run.named("scores")[0]
    artifact = run.store.artifact(scores)
    artifact.ledger.forget(["00001"])
    (artifact.path / "manifest.json").unlink()
    outcome = run_stage(scores, run.store, Reporter(True), run.settings)
    assert outcome.computed == 1
    assert digests(further())["scores"] == before["scores"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("methods.transport.stpes=3", "'methods.transport.stpes'; did you mean 'steps'?"),
        ("methods.mean-shift.steps=-1", "methods.mean-shift.steps: input should be greater"),
        ("methods.mean_shift.steps=1", "unknown method 'mean_shift'; did you mean 'mean-shift'?"),
        ("scores.methods=[nope]", "unknown method 'nope'; known: abs, awt, awt-crops"),
    ],
)
def test_settings_of_a_further_method_are_checked(further: Made, change: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        further(change)
    assert message in str(raised.value)


def test_a_method_whose_texts_do_not_exist_says_which(
    further: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Transport):
        texts = ("poems",)

    monkeypatch.setitem(METHODS, "lost", Lost)
    with pytest.raises(ConfigError, match="no text set 'poems', which lost reads"):
        further("scores.methods=[lost]")
    assert "lost" not in further("scores.methods=null").settings.chosen


@pytest.fixture
def greedy(further: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The same with a method that reads more raw crops than ABS."""
    monkeypatch.setitem(METHODS, "greedy", Greedy)
    return further


def test_abs_takes_its_own_crops_where_another_method_reads_more(greedy: Made) -> None:
    alone = greedy("scores.n=3", "scores.methods=[abs]")
    beside = greedy("scores.n=3", "scores.methods=[abs, greedy]", "methods.greedy.more=1")
    assert scores_of(beside, "abs") == pytest.approx(scores_of(alone, "abs"), abs=1e-5)


@pytest.mark.slow
def test_as_many_crops_are_made_as_a_method_reads(greedy: Made) -> None:
    run = greedy("scores.methods=[greedy]", "methods.greedy.more=4")
    assert array(run, "embeddings-raw").shape[1] == 8
    assert scores_of(run, "greedy").shape == (8, 2)
