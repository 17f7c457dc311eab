"""Compare embeddings with the reference, stage by stage; then all methods, from the files alone.

For each stage the reference starts from the stored output of the stage before. Stored embeddings
are float16 (unit roundoff 2^-11), which gives a bound for the error of a score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.methods.wca import Wca
from pipeline.run import Run
from tests.reference import formulas as ref
from tests.reference.case import (
    BOX,
    METHODS,
    POOL,
    PROFILES,
    Case,
    M,
    N,
    array,
    boxes,
    crops_table,
    feature_vectors,
    stored_texts,
    table,
    windows_of,
)
from tests.reference.crops import file_uniforms, squares_of

pytestmark = pytest.mark.slow

ROUNDOFF = 2.0**-11
MEANS = {"clip": "clip", "clip-e": "clip-e", "clip-d": "clip-d", "waffle": "waffle", "cupl": "cupl"}


# --- Stage by stage --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEANS)
def test_texts_and_their_embeddings(case: Case, name: str) -> None:
    rows = table(case.run, f"descriptions-{name}", "texts")
    sentences, expected = case.sentences[name], case.texts[name]
    assert rows["text"].tolist() == [text for group in sentences for text in group]
    assert rows["label"].tolist() == [c for c, group in enumerate(sentences) for _ in group]
    assert rows["position"].tolist() == [i for group in sentences for i in range(len(group))]
    stored = stored_texts(case.run, name)
    assert np.abs(np.concatenate(stored) - np.concatenate(expected)).max() <= 1e-5


def test_waffle_says_the_same_of_every_class(case: Case) -> None:
    """Check that each class has two pairs of random texts, which differ by the class name only."""
    texts = case.sentences["waffle"]
    assert [len(group) for group in texts] == [4, 4, 4]
    bare = [[t.replace(name, "") for t in g] for name, g in zip(case.classes, texts, strict=True)]
    assert bare[0] == bare[1] == bare[2]
    assert len(set(bare[0])) == 4


def test_waffle_draws_other_noise_by_another_seed(case: Case) -> None:
    def texts(*changes: str) -> list[str]:
        run = case.made("descriptions-waffle", *changes)
        found: list[str] = table(run, "descriptions-waffle", "texts")["text"].tolist()
        return found

    before, other = texts(), texts("descriptions.waffle.seed=1")
    assert len(before) == len(other)
    assert before != other
    assert set(before) < set(texts("descriptions.waffle.pairs=3"))


def test_whole_image_embeddings(case: Case) -> None:
    stored = array(case.run, "embeddings-image")
    assert stored.dtype == np.float16
    assert stored.shape[:2] == (len(case.files), 1)
    assert np.abs(stored[:, 0] - case.images_embedded).max() <= 5e-4


@pytest.mark.parametrize("name", PROFILES)
def test_raw_crop_embeddings_of_the_stored_boxes(case: Case, name: str) -> None:
    run = case.made("embeddings-raw", profile=name)
    assert_boxes(case, run, "raw", N)


def test_square_embeddings_of_the_stored_boxes(case: Case) -> None:
    assert_boxes(case, case.run, "squares", POOL)


def test_augmented_embeddings_of_the_stored_boxes(case: Case) -> None:
    run = case.made("embeddings-augmented", "scores.methods=[zero]", f"methods.zero.n={N}")
    stored = array(run, "embeddings-augmented")[:, :N]
    rows = crops_table(run, "augmented", N)[[*BOX, "flip"]].to_numpy()
    drawn = rows.reshape(len(case.files), N, 5).tolist()
    side = case.clip.side
    for image, vectors, of_image in zip(case.images, stored, drawn, strict=True):
        for vector, (*box, flip) in zip(vectors, of_image, strict=True):
            crop = image.crop(tuple(box)).resize((side, side), Image.Resampling.BILINEAR)
            shown = ImageOps.mirror(crop) if flip else crop
            assert np.abs(vector - case.clip.encode_image(shown).numpy()).max() <= 5e-4
    assert {row[4] for rows in drawn for row in rows} == {0, 1}


def assert_boxes(case: Case, run: Run, views: str, n: int) -> None:
    stored = array(run, f"embeddings-{views}")[:, :n]
    assert stored.dtype == np.float16
    cut = boxes(crops_table(run, views, n), BOX)
    for image, vectors, of_image in zip(case.images, stored, cut, strict=True):
        expected = [case.clip.encode_box(image, box).numpy() for box in of_image]
        assert np.abs(vectors - expected).max() <= 5e-4


@pytest.mark.parametrize("name", PROFILES)
def test_feature_crop_embeddings_of_the_stored_windows(case: Case, name: str) -> None:
    """Compare feature crops; the official profile selects them from all windows."""
    assert_windows(case, case.made("embeddings-feature", profile=name), layer=-1)


@pytest.mark.parametrize("layer", [1, 0])
def test_feature_crops_of_other_layers(case: Case, layer: int) -> None:
    changes = f"feature.layer={layer}", "windows.encode=drawn"
    assert_windows(case, case.made("embeddings-feature", *changes), layer)


def assert_windows(case: Case, run: Run, layer: int) -> None:
    stored = feature_vectors(run)
    assert stored.dtype == np.float16
    block = layer % len(case.clip.blocks)
    for image, vectors, cut in zip(case.images, stored, windows_of(run), strict=True):
        tokens = case.clip.tokens_before(image, block)
        expected = [case.clip.encode_window(tokens, window, block).numpy() for window in cut]
        assert np.abs(vectors - expected).max() <= 5e-4


def test_feature_layers_differ(case: Case) -> None:
    drawn = "windows.encode=drawn"
    runs = [case.made("embeddings-feature", f"feature.layer={i}", drawn) for i in (-1, 1, 0)]
    last, second, first = map(feature_vectors, runs)
    assert min(np.abs(last - second).max(), np.abs(second - first).max()) > 2e-3


def test_a_crop_is_the_same_whether_all_windows_are_embedded_or_the_drawn(case: Case) -> None:
    run = case.made("embeddings-feature", "windows.encode=drawn")
    assert windows_of(run) == windows_of(case.run)
    apart = feature_vectors(run).astype(np.float64) - feature_vectors(case.run)
    assert np.abs(apart).max() <= 5e-4
    assert (
        array(case.run, "embeddings-feature").shape[1] > array(run, "embeddings-feature").shape[1]
    )


# --- From the files alone ---------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """Float64 logits of one image, and the largest change of each by float16 embeddings."""

    logits: list[float]
    bounds: np.ndarray

    @property
    def certain(self) -> bool:
        """True if rounding cannot change the order of the classes."""
        low, high = self.logits - self.bounds, self.logits + self.bounds
        pairs = combinations(range(len(self.logits)), 2)
        return all(low[a] > high[b] or low[b] > high[a] for a, b in pairs)


@cache
def features(case: Case, i: int, name: str) -> list[np.ndarray]:
    """Return the reference's crop vectors of image `i` under a profile, cached."""
    return case.features(i, PROFILES[name])


def exact_abs(case: Case, i: int, name: str) -> Exact:
    """Compute soft matching in float64, with its error bound.

    Each component has a relative error of at most 2^-11. So the absolute error of a similarity is
    at most d = 2^-11, and a softmax weight changes by a factor within exp(+-2 d / T).
    """
    temperature, texts = PROFILES[name].temperature, [group[:M] for group in case.texts["cupl"]]
    factor = math.exp(2 * ROUNDOFF / temperature)
    sims = np.array(features(case, i, name)) @ np.concatenate(texts).T
    weights = np.exp((sims - sims.max(axis=1, keepdims=True)) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    moved = (weights * ((factor - 1) * np.abs(sims) + factor * ROUNDOFF)).sum(axis=0)
    ends = np.cumsum([len(group) for group in texts])[:-1]
    bounds = np.array([part.sum() for part in np.split(moved, ends)])
    return Exact(ref.soft_scores(features(case, i, name), texts, temperature), bounds)


def exact_mean(case: Case, i: int, method: str) -> Exact:
    """Compute Eq. 1 in float64; the error of a similarity is at most 2^-11."""
    logits = ref.mean_scores(case.images_embedded[i], case.texts[MEANS[method]])
    return Exact(logits, np.full(len(logits), ROUNDOFF))


def assert_scored(case: Case, run: Run, i: int, method: str, exact: Exact) -> bool:
    """Check that logits are within their bounds; return False if the bounds leave ranks open.

    Otherwise check rank and prediction too, and return True.
    """
    stored = array(run, "scores", "logits")[i, list(run.settings.chosen).index(method)]
    assert (np.abs(stored - exact.logits) <= exact.bounds + 1e-5).all()
    if not exact.certain:
        return False
    rows = table(run, "scores", "scores").query(f"method == {method!r}").reset_index()
    assert rows["pred"][i] == ref.ranked(exact.logits)[0]
    assert rows["rank"][i] == ref.rank_of(case.labels[i], exact.logits)
    return True


@pytest.mark.parametrize("method", MEANS)
def test_mean_text_methods_from_the_files_alone(case: Case, method: str) -> None:
    images = range(len(case.files))
    scored = [assert_scored(case, case.run, i, method, exact_mean(case, i, method)) for i in images]
    assert sum(scored) >= (0 if method == "waffle" else 1)


@pytest.mark.parametrize("name", PROFILES)
def test_abs_from_the_files_alone(case: Case, name: str) -> None:
    run, images = case.made("scores", profile=name), case.decided(PROFILES[name])
    assert len(images) >= 3
    scored = [assert_scored(case, run, i, "abs", exact_abs(case, i, name)) for i in images]
    assert any(scored)


@pytest.mark.parametrize("name", PROFILES)
def test_float16_is_all_that_separates_abs_from_float64(case: Case, name: str) -> None:
    """Compare with float64 embeddings rounded to float16: a difference of 0.2 % remains.

    A component near the middle between two float16 numbers may be rounded to either.
    """
    profile, texts = PROFILES[name], [group[:M] for group in case.texts["cupl"]]
    stored = array(case.made("scores", profile=name), "scores", "logits")[:, METHODS.index("abs")]
    for i in case.decided(profile):
        expected = ref.soft_scores(map(half, features(case, i, name)), texts, profile.temperature)
        assert stored[i] == pytest.approx(expected, rel=2e-3, abs=2e-4 * max(map(abs, expected)))


def half(vector: np.ndarray) -> np.ndarray:
    """Round a vector to float16, as it is stored."""
    return vector.astype(np.float16).astype(np.float64)


def test_wca_from_the_files_alone(case: Case) -> None:
    """Compare with float64 embeddings rounded to float16, as for ABS."""
    stored = array(case.run, "scores", "logits")[:, METHODS.index("wca")]
    method = case.run.settings.chosen["wca"]
    assert isinstance(method, Wca)
    labels = [group[0] for group in case.texts["clip"]]
    for i, image in enumerate(case.images):
        squares = squares_of(file_uniforms(case.files[i], 0, POOL, "squares"), image.size)
        drawn = [case.clip.encode_box(image, squares[j]).numpy() for j in method.drawn()]
        whole, views = half(case.images_embedded[i]), [half(vector) for vector in drawn]
        scales = math.exp(4), math.exp(2)
        expected = ref.cross_aligned_scores(whole, views, labels, case.texts["cupl"], *scales)
        assert stored[i] == pytest.approx(expected, rel=2e-3, abs=2e-4)
