"""Methods over a stream: against a stream that is followed image by image, in any blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.progress import Reporter
from pipeline.engine.runner import run_stage
from pipeline.kernels.matching import Descriptions, joined
from pipeline.kernels.timeline import members
from pipeline.methods.base import MethodInputs, Scorer, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.registry import METHODS
from pipeline.run import Run
from tests.helpers.runs import Runner, digests, make_all
from tests.reference import rivals as ref

DIM, AUGMENTED = 4, 39
CLOSE = pytest.approx
cases = given(draw=st.data())
few = settings(max_examples=25, deadline=None)


class Case:
    """A stream of images, some of them equal, of classes of which two may be equal."""

    def __init__(self, seed: int, images: int, classes: int, scale: float, twins: bool) -> None:
        rng = np.random.default_rng(seed)
        self.scale, self.images = scale, self._units(rng, images)
        self.images[rng.integers(images)] = self.images[0]
        near = np.repeat(self.images, AUGMENTED, axis=0) + 0.5 * self._units(
            rng, AUGMENTED * images
        )
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        self.augmented = near.reshape(images, AUGMENTED, DIM)
        self.augmented[:, 1] = self.augmented[:, 0]
        self.texts = [self._units(rng, rng.integers(1, 3)) for _ in range(classes)]
        if twins:
            self.texts.append(self.texts[0])
        self.sha256 = [f"{rng.integers(2**32):064x}" for _ in range(images)]

    @staticmethod
    def _units(rng: np.random.Generator, count: int) -> np.ndarray:
        vectors = rng.normal(size=(count, DIM)) + 0.7
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    @classmethod
    def drawn(cls, draw: st.DataObject) -> Case:
        twins = draw.draw(st.booleans())
        # entropies of twins are all ln 2 at larger scales, so that rounding would put them in order
        scales = [3.0] if twins else [3.0, 26.66, 100.0]
        return cls(
            draw.draw(st.integers(0, 2**32)),
            draw.draw(st.integers(1, 40)),
            draw.draw(st.integers(1, 5)),
            draw.draw(st.sampled_from(scales)),
            twins,
        )

    def scorer(self, method: str, **values: Any) -> Scorer:
        made = METHODS[method].model_validate(values)
        rows = torch.from_numpy(np.concatenate(self.texts))
        labels = torch.from_numpy(np.repeat(range(len(self.texts)), [*map(len, self.texts)]))
        texts = Descriptions.from_rows(rows, labels, len(self.texts))
        return made.scorer(
            MethodInputs(
                dict.fromkeys(made.texts, texts),
                ScoresConfig(logit_scale=self.scale),
                len(self.images),
                self.views,
                self.sha256,
            )
        )

    def views(self, images: slice) -> dict[str, ViewVectors]:
        names = {"image": self.images[:, None], "augmented": self.augmented}
        return {name: ViewVectors(torch.from_numpy(each[images])) for name, each in names.items()}

    def scores(self, method: str, block: int = 1000, **values: Any) -> np.ndarray:
        scorer, starts = self.scorer(method, **values), range(0, len(self.images), block)
        blocks = [slice(i, min(i + block, len(self.images))) for i in starts]
        return torch.cat([scorer(some, self.views(some)) for some in blocks]).numpy()

    def order(self, method: str, **values: Any) -> list[int]:
        made = METHODS[method].model_validate(values)
        inputs = MethodInputs({}, ScoresConfig(), len(self.images), None, self.sha256)
        times = made.times(inputs)  # type: ignore[attr-defined]
        assert sorted(times) == list(range(len(times)))
        return [times.index(time) for time in range(len(times))]


@cases
@few
def test_tda(draw: st.DataObject) -> None:
    case = Case.drawn(draw)
    stream = {"order": draw.draw(st.sampled_from(["index", "shuffled"])), "seed": 3}
    found = case.scale * case.scores("tda", alpha=1.5, beta=4.0, **stream)
    means = ref.mean_texts(case.texts)
    expected = ref.tda(case.images, means, case.order("tda", **stream), case.scale, 1.5, 4.0)
    for image, row in enumerate(found):
        assert row == CLOSE(expected[image], abs=1e-10)


@cases
@few
def test_boost_adapter(draw: st.DataObject) -> None:
    case = Case.drawn(draw)
    stream = {"order": draw.draw(st.sampled_from(["index", "shuffled"])), "seed": 3}
    values = {"alpha": 1.5, "beta": 4.0, "delta": draw.draw(st.integers(0, 3))}
    found = case.scale * case.scores("boost-adapter", n=AUGMENTED, **values, **stream)
    views = [[f, *own] for f, own in zip(case.images, case.augmented, strict=True)]
    means, order = ref.mean_texts(case.texts), case.order("boost-adapter", **stream)
    expected = ref.boost(views, means, order, case.scale, **values)
    for image, row in enumerate(found):
        assert row == CLOSE(expected[image], abs=1e-10)


def test_boost_adapter_without_views_has_tda_s_positive_cache() -> None:
    """Where no image is of medium entropy, so that the negative caches are empty."""
    case = Case(5, 30, 4, 3000.0, False)
    assert case.scores("boost-adapter", n=0) == CLOSE(case.scores("tda"), abs=1e-12)


@cases
@few
def test_dmn(draw: st.DataObject) -> None:
    case = Case.drawn(draw)
    stream = {"order": draw.draw(st.sampled_from(["index", "shuffled"])), "seed": 3}
    beta = draw.draw(st.sampled_from([0.0, 5.5, 100.0]))
    found = case.scores("dmn-zs", room=4, beta=beta, **stream)
    means = ref.mean_texts([np.concatenate([each, each]) for each in case.texts])
    expected = ref.dmn(case.images, means, case.order("dmn-zs", **stream), case.scale, 4, beta)
    for image, row in enumerate(found):
        assert row == CLOSE(expected[image][0], abs=1e-10)


def by_hand(texts: list[list[float]], images: list[list[float]]) -> Case:
    case = Case(0, len(images), 1, 100.0, False)
    case.texts = [np.array([text]) for text in texts]
    case.images = np.array(images)
    return case


def test_tda_by_hand() -> None:
    images = [[math.cos(angle), math.sin(angle)] for angle in (0.20, 0.75, 0.80)]
    case = by_hand([[1.0, 0.0], [0.0, 1.0]], images)
    found = 100 * case.scores("tda", order="index")
    assert found[2] == CLOSE([72.3763, 73.6186], abs=5e-5)


def test_dmn_by_hand() -> None:
    case = by_hand([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.6]])
    (_, logits) = ref.dmn(case.images, [np.eye(2)[0], np.eye(2)[1]], [0], 100, 50, 5.5)[0]
    assert logits == CLOSE([98.7789, 60.0], abs=5e-5)
    both = np.array(ref.softmax([80, 60])) + ref.softmax(logits)
    assert case.scores("dmn-zs")[0] == CLOSE(both, abs=1e-10)


@pytest.mark.parametrize("method", ["tda", "boost-adapter", "dmn-zs"])
def test_scores_are_the_same_in_any_blocks_and_any_order(method: str) -> None:
    case = Case(5, 60, 5, 26.66, True)
    found = case.scores(method).astype(np.float32)
    for block in (1, 7, 32):
        assert np.array_equal(case.scores(method, block).astype(np.float32), found)
    late = slice(50, 60)
    alone = case.scorer(method)(late, case.views(late)).float().numpy()
    assert np.array_equal(alone, found[late])


def test_the_stream_is_drawn_by_the_seed_and_the_files() -> None:
    case = Case(5, 30, 3, 100.0, False)
    orders = [case.order("tda", **values) for values in ({}, {"seed": 1}, {"order": "index"})]
    assert orders[2] == list(range(30))
    assert orders[0] != orders[1] != orders[2]
    before = [case.sha256[image] for image in orders[0]]
    case.sha256.reverse()
    assert [case.sha256[image] for image in case.order("tda")] == before


@given(st.data(), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_members_against_a_cache_that_is_followed(draw: st.DataObject, room: int) -> None:
    """Few distinct doubts, so that ties are common; a negative label never enters."""
    count = draw.draw(st.integers(1, 12))
    labels = draw.draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count))
    doubts = draw.draw(st.lists(st.integers(0, 3).map(float), min_size=count, max_size=count))
    times = draw.draw(st.permutations(range(count)))
    found = members(labels, doubts, times, room)
    held: list[list[list]] = [[] for _ in range(3)]
    present = found.present(torch.arange(count)).tolist()
    for time in range(count):
        image = times.index(time)
        if labels[image] >= 0:
            ref.cached(held[labels[image]], [doubts[image], image], room)
        inside = {(i, c) for c, some in enumerate(held) for _, i in some}
        pairs = zip(found.image.tolist(), found.label.tolist(), present[time], strict=True)
        assert {(i, c) for i, c, there in pairs if there} == inside


def test_joined_descriptions_keep_their_classes() -> None:
    rows = torch.eye(4)
    a = Descriptions.from_rows(rows[:3], torch.tensor([0, 0, 1]), 2)
    b = Descriptions.from_rows(rows[3:], torch.tensor([1]), 2)
    both = joined([a, b])
    assert both.counts == (2, 2)
    assert torch.equal(both.vectors, torch.stack([rows[[0, 1]], rows[[2, 3]]]))


def test_a_unit_that_is_scored_again_alone_says_the_same(made: Run, run_of: Runner) -> None:
    def run() -> Run:
        return run_of("scores.methods=[tda, dmn-zs]")

    before = make_all(run())["scores"]
    scores = run().named("scores")[0]
    artifact = run().store.artifact(scores)
    artifact.ledger.forget(["00001"])
    (artifact.path / "manifest.json").unlink()
    assert run_stage(scores, run().store, Reporter(True), run().settings).computed == 1
    assert digests(run())["scores"] == before
