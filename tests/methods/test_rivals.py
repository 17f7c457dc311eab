"""Methods of other papers against plain loops in float64, and worked numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.kernels.confidence import entropy_with
from pipeline.kernels.matching import Descriptions, first_equal
from pipeline.kernels.overlap import distinct_boxes
from pipeline.kernels.sampling import uniforms
from pipeline.kernels.transport import transported
from pipeline.methods.awt import AwtCrops
from pipeline.methods.base import MethodInputs, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.lazsl import LazslCrops
from pipeline.methods.mta import MtaCrops
from pipeline.methods.registry import METHODS, defaults
from pipeline.methods.zero import ZeroCrops
from pipeline.run import Run
from tests.helpers.runs import Runner, make_all
from tests.reference import rivals as ref
from tests.reference.case import array, table

DIM = 5
CLOSE = pytest.approx


class Case:
    """Images with repeated views, classes with equal texts, and a logit scale."""

    def __init__(self, draw: st.DataObject) -> None:
        rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
        self.scale = draw.draw(st.sampled_from([1.0, 26.66, 100.0]))
        counts = draw.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
        self.texts = [_units(rng, count) for count in counts]
        if draw.draw(st.booleans()):
            self.texts.append(self.texts[0])
        self.n = draw.draw(st.integers(1, 6))
        self.images = draw.draw(st.integers(1, 3))
        sides = rng.integers(6, 9, (self.images, 2 * self.n, 1))
        corners = rng.integers(0, 3, (self.images, 2 * self.n, 2))
        self.boxes = np.concatenate([corners, corners + sides], axis=2)
        self.views = {name: self._drawn(rng, count) for name, count in self._counts().items()}
        if draw.draw(st.booleans()):
            for crops in self.views.values():
                crops[:] = crops[:, rng.integers(0, crops.shape[1], crops.shape[1])]

    def _counts(self) -> dict[str, int]:
        random = dict.fromkeys(("augmented", "squares"), 2 * self.n)
        return {"image": 1, "raw": self.n, "feature": self.n, **random}

    def _drawn(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return np.stack([_units(rng, count) for _ in range(self.images)])

    def scores(self, method: str, **values: Any) -> np.ndarray:
        """What the pipeline makes of them."""
        made = METHODS[method].model_validate(values)
        rows = torch.from_numpy(np.concatenate(self.texts))
        labels = torch.from_numpy(np.repeat(range(len(self.texts)), [*map(len, self.texts)]))
        texts = Descriptions.from_rows(rows, labels, len(self.texts))
        config = ScoresConfig(n=self.n, m=None, logit_scale=self.scale)
        inputs = MethodInputs(
            dict.fromkeys(made.texts, texts),
            config,
            sha256=[f"{i:064x}" for i in range(self.images)],
            boxes={"squares": torch.from_numpy(self.boxes)},
        )
        scorer = made.scorer(inputs)
        given = {name: ViewVectors(torch.from_numpy(each)) for name, each in self.views.items()}
        return np.asarray(scorer(slice(0, self.images), given))

    def each(self) -> list[list[np.ndarray]]:
        """All views of each image: the whole image, feature crops, raw crops."""
        return self._joined("image", "feature", "raw")

    def augmented(self) -> list[list[np.ndarray]]:
        """The whole image and its random resized crops."""
        return self._joined("image", "augmented")

    def _joined(self, *names: str) -> list[list[np.ndarray]]:
        parts = [self.views[name] for name in names]
        return [list(views) for views in np.concatenate(parts, axis=1)]

    def cosines(self, views: Sequence[np.ndarray]) -> list[list[float]]:
        """Cosines of views with mean texts."""
        return [[ref.dot(view, mean) for mean in ref.mean_texts(self.texts)] for view in views]


def _units(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors that lie close together, as those of real models do."""
    vectors = rng.normal(size=(count, DIM)) + rng.uniform(0, 2)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


cases = given(draw=st.data())
few = settings(max_examples=20, deadline=None)


# --- ZERO -------------------------------------------------------------------------------------


@cases
@few
def test_zero(draw: st.DataObject) -> None:
    case = Case(draw)
    share = draw.draw(st.sampled_from([0.05, 0.3, 0.5, 1.0]))
    found = case.scores("zero-crops", share=share)
    soft = case.scores("zero-crops", share=share, eps=2**-6)
    for row, blurred, views in zip(found, soft, case.each(), strict=True):
        # Twins and repeated views tie exactly, whatever the rounding of products.
        cosines = np.round(case.cosines(views), 13).tolist()
        assert row.tolist() == ref.zero(cosines, case.scale, share)
        expected = ref.zero_soft(cosines, case.scale, share, 2**-6)
        assert blurred == CLOSE(expected, abs=1e-10)


def test_zero_by_hand() -> None:
    cosines = [
        *[(0.30, 0.20), (0.29, 0.22), (0.25, 0.26), (0.26, 0.24), (0.20, 0.30)],
        *[(0.21, 0.31), (0.27, 0.23), (0.24, 0.245), (0.28, 0.21), (0.22, 0.21)],
    ]
    found = ZeroCrops().votes(torch.tensor([cosines]).double(), 100, torch.arange(2))
    assert found.floor().tolist() == [[1, 2]]
    half = ZeroCrops(share=0.1, eps=2**-10).votes(
        torch.tensor([[[0.25, 0.2495, 0.248]]]), 100, torch.arange(3)
    )
    assert half[0].tolist() == CLOSE([0.58, 0.35, 0.07], abs=5e-3)


def test_zero_s_probabilities_are_shares_of_votes() -> None:
    votes = torch.tensor([[2.5, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    found = ZeroCrops().probabilities(votes, ScoresConfig())
    assert found.tolist() == CLOSE(np.array([[2 / 3, 1 / 3, 0], [1 / 3] * 3]))


# --- MTA --------------------------------------------------------------------------------------


@cases
@few
def test_mta(draw: st.DataObject) -> None:
    case = Case(draw)
    values = {"lambda_y": draw.draw(st.sampled_from([0.2, 1.0])), "share": 0.3, "lambda_q": 4.0}
    found = case.scores("mta-crops", **values)
    for row, views in zip(found, case.each(), strict=True):
        logits = [[case.scale * each for each in row] for row in case.cosines(views)]
        _, _, mode = ref.mta(views, logits, **values)
        assert row == CLOSE([ref.dot(mode, mean) for mean in ref.mean_texts(case.texts)], abs=1e-10)


def test_mta_by_hand() -> None:
    v = torch.tensor([[1, 0.1], [1, 0.2], [1, 0.15], [0.1, 1], [1, 0.05]]).double()
    v = (v / v.norm(dim=1, keepdim=True))[None]
    mta = MtaCrops()
    h2 = mta.bandwidths(v)[0].tolist()
    assert h2 == CLOSE([0.001211, 0.001176, 0.001176, 0.707286, 0.001235], abs=5e-7)
    assert mta.modes(v, 100 * v)[0][0].tolist() == CLOSE([0.995044, 0.099438], abs=5e-7)
    _, y, _ = ref.mta(list(v[0].numpy()), (100 * v[0]).tolist(), 0.2, 4.0, 0.3)
    assert y == CLOSE([0.91749, 0.00674, 0.03668, 0, 0.03909], abs=5e-6)


def test_an_image_alone_is_its_own_mode() -> None:
    v = torch.tensor([[[0.6, 0.8]]]).double()
    mode, weights = MtaCrops().modes(v, v)
    assert mode.tolist() == CLOSE(np.array([[0.6, 0.8]]))
    assert (weights > 0).all()


# --- Transport --------------------------------------------------------------------------------


@cases
@few
def test_awt(draw: st.DataObject) -> None:
    case = Case(draw)
    found = case.scores("awt-crops")
    for row, views in zip(found, case.each(), strict=True):
        assert row == CLOSE(ref.awt(views, case.texts, case.scale, 0.5, 0.1), abs=1e-10)


@cases
@few
def test_lazsl(draw: st.DataObject) -> None:
    case = Case(draw)
    found = case.scores("lazsl-crops", theta=0.7)
    for row, views in zip(found, case.each(), strict=True):
        assert row == CLOSE(ref.lazsl(views, case.texts, 0.7, 0.1), abs=1e-10)


def test_transport_by_hand() -> None:
    cosines = torch.tensor([[[[0.30, 0.20], [0.25, 0.35]]]]).double()
    u, v = torch.tensor([[0.7, 0.3]]).double(), torch.tensor([[[0.5, 0.5]]]).double()
    assert transported(cosines, u, v, 0.1).item() == CLOSE(0.283639, abs=5e-7)
    assert transported(cosines, u, v, 0.1, steps=7).item() == CLOSE(0.2836396, abs=5e-8)
    plan, _ = ref.transport(cosines[0, 0].tolist(), u[0].tolist(), v[0, 0].tolist(), 0.1)
    assert plan == CLOSE(np.array([[0.443197, 0.256803], [0.056803, 0.243197]]), abs=5e-7)


def test_lazsl_by_hand() -> None:
    crops = np.array([[1, 0.2], [1, 1], [0.2, 1]])
    texts = np.array([[1, 0.1], [0.8, 0.6]])
    case = Case.__new__(Case)
    case.n, case.images, case.scale = 3, 1, 100.0
    case.texts = [np.stack([ref.unit(text) for text in texts])]
    image, raw = np.array([[[1.0, 0.0]]]), np.stack([ref.unit(crop) for crop in crops])[None]
    case.views, case.boxes = {"image": image, "raw": raw, "feature": raw}, np.zeros((1, 3, 4))
    assert case.scores("lazsl-crops", steps=2)[0] == CLOSE([0.945904], abs=1e-6)


def test_a_problem_stops_whatever_is_beside_it() -> None:
    torch.manual_seed(0)
    cosines, u, v = torch.rand(6, 3, 4, 5), torch.rand(6, 4), torch.rand(6, 3, 5)
    u, v = u / u.sum(dim=1, keepdim=True), v / v.sum(dim=2, keepdim=True)
    alone = [transported(cosines[i, None], u[i, None], v[i, None], 0.1) for i in range(6)]
    assert torch.cat(alone) == CLOSE(transported(cosines, u, v, 0.1), abs=1e-6)


def test_a_class_without_texts_gains_nothing() -> None:
    rows, labels = (0.8 * torch.eye(3) + 0.2).double(), torch.tensor([0, 0, 2])
    texts = Descriptions.from_rows(rows, labels, 3)
    views = {name: ViewVectors(rows[None]) for name in ("image", "raw", "feature")}
    for method, made in (("cupl", AwtCrops()), ("clip-d", LazslCrops())):
        scorer = made.scorer(MethodInputs({method: texts}, ScoresConfig(n=3)))
        scores = scorer(slice(0, 1), views)[0].tolist()
        assert scores[1] == 0
        assert min(scores[0], scores[2]) > 0


@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([1.0, 100.0, 2000.0]))
@few
def test_entropy_with_a_class_replaced(seed: int, classes: int, scale: float) -> None:
    """Also where the replaced class had all probability, or gets it."""
    rng = np.random.default_rng(seed)
    logits, others = scale * rng.normal(size=classes), scale * rng.normal(size=(classes, 2))
    found = entropy_with(torch.from_numpy(logits)[None], torch.from_numpy(others)[None])[0]
    for c in range(classes):
        for j in range(2):
            row = [*logits]
            row[c] = others[c, j]
            assert found[c, j].item() == CLOSE(ref.entropy(row), abs=1e-10)


def test_first_equal_needs_all_sets_to_be_equal() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    a = Descriptions.from_rows(rows, torch.arange(4), 4)
    b = Descriptions.from_rows(rows[[0, 1, 0, 0]], torch.arange(4), 4)
    assert first_equal([a]).tolist() == [0, 1, 0, 1]
    assert first_equal([a, b]).tolist() == [0, 1, 0, 3]


@cases
@few
def test_a_method_on_its_own_views_is_the_same_rule(draw: st.DataObject) -> None:
    case = Case(draw)
    n, scale = 2 * case.n, case.scale
    found = [case.scores(name, n=n) for name in ("zero", "mta", "awt")]
    for zero, mta, awt, views in zip(*found, case.augmented(), strict=True):
        cosines = np.round(case.cosines(views), 13).tolist()
        assert zero.tolist() == ref.zero(cosines, scale, 0.3)
        _, _, mode = ref.mta(views, (scale * np.array(cosines)).tolist(), 0.2, 4.0, 0.3)
        assert mta == CLOSE([ref.dot(mode, mean) for mean in ref.mean_texts(case.texts)], abs=1e-10)
        assert awt == CLOSE(ref.awt(views, case.texts, scale, 0.5, 0.1), abs=1e-10)


# --- Squares that overlap little ---------------------------------------------------------------


@cases
@few
def test_bifta_s_views(draw: st.DataObject) -> None:
    """Draws are from the kept squares, of each image by itself."""
    case = Case(draw)
    pool, n = 2 * case.n, 5
    found = case.scores("bifta-views", pool=pool, n=n, overlap=0.4, most=3, seed=7)
    labels = ref.mean_texts(case.texts)
    for i, row in enumerate(found):
        kept = ref.kept_boxes(case.boxes[i].tolist(), 0.4, 3)
        u = uniforms(7, "bifta", f"{i:064x}", 0, n)[:, 0].tolist()
        drawn = [case.views["squares"][i, kept[int(each * len(kept))]] for each in u]
        image = case.views["image"][i, 0]
        assert row == CLOSE(ref.wca(image, drawn, labels, case.texts, case.scale), abs=1e-10)


def test_squares_by_hand() -> None:
    squares = torch.tensor([[[0, 0, 10, 10], [1, 0, 11, 10], [5, 5, 15, 15]]])
    assert distinct_boxes(squares, 0.85, 3).tolist() == [[True, True, True]]
    assert distinct_boxes(squares, 0.8, 3).tolist() == [[True, False, True]]
    assert distinct_boxes(squares, 0.85, 2).tolist() == [[True, True, False]]
    assert ref.shared(*squares[0, :2].tolist()) == CLOSE(90 / 110)


def test_boxes_of_squares_reach_the_method(made: Run, run_of: Runner) -> None:
    """With squares that may not overlap at all, each image has its first square alone."""
    values = "pool: 4, n: 2, overlap: 0.0, most: 1"
    run = run_of("scores.methods=[wca, bifta-views]", f"methods.bifta-views={{{values}}}")
    make_all(run)
    squares, image = array(run, "embeddings-squares"), array(run, "embeddings-image")
    names, counts = ("clip", "cupl"), {}
    for name in names:
        rows = table(run, f"descriptions-{name}", "texts").groupby("label")["text_id"]
        vectors = array(run, f"descriptions-{name}").astype(float)
        counts[name] = [list(vectors[ids.to_numpy()]) for _, ids in rows]
    labels, scale = ref.mean_texts(counts["clip"]), run.named("scores")[0].config.scale
    scores = array(run, "scores", "logits")[:, 1]
    for row, whole, first in zip(scores, image[:, 0], squares[:, 0], strict=True):
        views = [ref.unit(each.astype(float)) for each in (whole, first)]
        expected = ref.wca(views[0], [views[1]], labels, counts["cupl"], scale)
        assert row == CLOSE(expected, abs=2e-3)


# --- In a run ---------------------------------------------------------------------------------

AUGMENTED = ["zero", "mta", "awt"]
CROPS = ["zero-crops", "mta-crops", "awt-crops", "lazsl-crops"]


def test_only_the_paper_s_methods_are_scored_unless_named() -> None:
    assert defaults() == ["clip", "clip-e", "clip-d", "waffle", "cupl", "wca", "abs"]


def test_a_name_is_refused_on_other_views_than_it_stands_for(run_of: Runner) -> None:
    with pytest.raises(ConfigError, match=r"squares.alpha: 0.5, where lazsl is defined by 0.6"):
        run_of("scores.methods=[lazsl]").settings.chosen  # noqa: B018
    run = run_of("scores.methods=[lazsl]", "squares.alpha=0.6")
    assert run.settings.views == {"image": 1, "squares": 90}


def test_methods_that_count_single_crops_have_no_expectation(run_of: Runner) -> None:
    run = run_of("scores.methods=[abs, mta-crops]", "scores.expectation=true")
    with pytest.raises(ConfigError, match=r"scores\.expectation: mta-crops has none"):
        run.named("scores")[0].check()
    run_of("scores.methods=[abs]", "scores.expectation=true").named("scores")[0].check()


def test_rivals_score_what_is_stored(made: Run, run_of: Runner) -> None:
    few = [f"methods.{name}.n=3" for name in AUGMENTED]
    run = run_of(f"scores.methods=[{', '.join(CROPS + AUGMENTED)}]", *few)
    assert make_all(run)
    scores = array(run, "scores", "logits").swapaxes(0, 1)
    for votes, views in ((scores[0], 1 + 2 * 4), (scores[4], 1 + 3)):
        assert (np.floor(votes).sum(axis=1) == int(0.3 * views)).all()
    assert np.isfinite(scores).all()
    assert np.abs(scores[[1, 2, 3, 5, 6]]).max() <= 1.01
    assert len({each.tobytes() for each in scores}) == len(scores)
