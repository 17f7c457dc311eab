"""GDA and support sets: against a plain classifier, and against Pillow's own crops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.classifier.classifier import Classifier
from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.runtime import Runtime
from pipeline.datasets.images import decode
from pipeline.kernels.draws import augmented_crops
from pipeline.kernels.matching import Descriptions
from pipeline.kernels.sampling import layers
from pipeline.methods.base import MethodInputs, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.gda import ALPHAS, FOLDS, Gda, chosen_alpha, gaussian
from pipeline.models.clip.model import ClipModel
from pipeline.run import Run
from stages.support import SupportEmbeddings
from tests.helpers.runs import Runner, digests, make_all
from tests.reference import rivals as ref
from tests.reference.case import array, table

DIM = 4
CLOSE = pytest.approx


def units(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, DIM)) + rng.uniform(0, 1, DIM)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def grouped(sets: list[np.ndarray]) -> Descriptions:
    labels = torch.from_numpy(np.repeat(range(len(sets)), [*map(len, sets)]))
    return Descriptions.from_rows(torch.from_numpy(np.concatenate(sets)), labels, len(sets))


def scores(f: np.ndarray, texts: list[np.ndarray], shots: list[np.ndarray], gda: Gda) -> np.ndarray:
    inputs = MethodInputs({"tda": grouped(texts), "support": grouped(shots)}, ScoresConfig())
    views = {"image": ViewVectors(torch.from_numpy(f)[:, None])}
    return gda.scorer(inputs)(slice(0, len(f)), views).numpy()


drawn = given(
    seed=st.integers(0, 2**32),
    counts=st.lists(st.integers(2, 6), min_size=1, max_size=5),
    repeated=st.booleans(),
)
few = settings(max_examples=30, deadline=None)


@drawn
@few
def test_against_a_plain_classifier(seed: int, counts: list[int], repeated: bool) -> None:
    rng = np.random.default_rng(seed)
    texts, shots = [units(rng, 2) for _ in counts], [units(rng, count) for count in counts]
    if repeated:
        shots = [own[rng.integers(0, len(own), len(own))] for own in shots]
        shots[0] = units(rng, len(shots[0]))
    f = units(rng, 3)
    weights, biases = ref.gda(shots)
    means = np.array(ref.mean_texts(texts))
    expected = f @ means.T + 0.3 / 100 * (f @ weights.T + biases)
    assert scores(f, texts, shots, Gda(alpha=0.3)) == CLOSE(expected, abs=1e-10)


@drawn
@few
def test_alpha_is_right_most_often_on_what_is_left_out(
    seed: int, counts: list[int], repeated: bool
) -> None:
    rng = np.random.default_rng(seed)
    texts, shots = [units(rng, 2) for _ in counts], [units(rng, count) for count in counts]
    means, folds = ref.mean_texts(texts), min(FOLDS, *counts, 99)
    found = chosen_alpha(grouped(shots), torch.from_numpy(np.array(means)), 5.0)
    assert found == ref.gda_alpha(shots, means, 5.0, ALPHAS, folds)


def test_by_hand() -> None:
    x = torch.tensor([[2.0, 0.0], [3.0, 1.0], [0.0, 2.0], [1.0, 3.0]]).double()
    fitted = gaussian(x, torch.tensor([0, 0, 1, 1]), 2)
    assert fitted.weights[0].tolist() == CLOSE([4.125, -1.875], abs=1e-12)
    assert fitted.biases.tolist() == CLOSE([-5.38065] * 2, abs=5e-6)
    logits = fitted.logits(torch.tensor([[3.0, 0.0]]).double())[0]
    assert logits.tolist() == CLOSE([6.99435, -11.00564], abs=1e-5)


def test_one_vector_of_a_class_is_too_few_to_choose_alpha() -> None:
    one = grouped([np.eye(2), np.eye(2)[:1]])
    with pytest.raises(AbsError, match=r"methods\.gda\.alpha: a class has one vector"):
        chosen_alpha(one, torch.eye(2).double(), 100.0)


# --- In a run ---------------------------------------------------------------------------------


def supported(tiny: Path, run_of: Runner, **values: object) -> Run:
    """A run of GDA whose support set is the dataset itself."""
    support = {"dataset": str(tiny), "shots": 2, **values}
    return run_of("scores.methods=[gda]", f"methods.gda.support={json.dumps(support)}")


@pytest.mark.slow
def test_whole_images_are_those_of_the_stage(made: Run, tiny: Path, run_of: Runner) -> None:
    run = supported(tiny, run_of, passes=0, shots=3)
    assert make_all(run)
    rows, images = table(run, "embeddings-support", "texts"), table(run, "index", "images")
    found, whole = array(run, "embeddings-support"), array(run, "embeddings-image")[:, 0]
    assert rows["label"].tolist() == [0] * 3 + [1] * 3
    assert rows["text"].is_unique
    places = [images["path"].tolist().index(path) for path in rows["text"]]
    assert images["label"].to_numpy()[places].tolist() == rows["label"].tolist()
    assert found == CLOSE(whole[places].astype(np.float32), abs=1e-3)
    again = supported(tiny, run_of, passes=0, shots=2)
    make_all(again)
    kept = table(again, "embeddings-support", "texts")["text"].tolist()
    texts = rows["text"].tolist()
    assert kept == [*texts[:2], *texts[3:5]]  # fewer shots are the first of more


def test_crops_are_pillow_s(made: Run, tiny: Path, run_of: Runner) -> None:
    run = supported(tiny, run_of, passes=3)
    (stage,) = run.named("embeddings-support")
    assert isinstance(stage, SupportEmbeddings)
    make_all(run)
    found, clip = array(run, "embeddings-support"), ClipModel(stage.clip, Runtime())
    side = stage.clip.image_size
    flips = set()
    for row, shot in zip(found, stage.shots, strict=True):
        image = decode(stage.dataset.contents.read(shot.path))
        u = layers(0, "support", shot.sha256, shot.turn, shot.turn + 1)
        *box, flip = augmented_crops(u, *image.size, (0.5, 1.0))[0].tolist()
        crop = image.crop(tuple(box)).resize((side, side), Image.Resampling.BICUBIC)
        if flip:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None]
        assert row == CLOSE(clip.encode_images(pixels)[0].numpy(), abs=1e-5)
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert area >= 0.49 * image.width * image.height
        flips.add(flip)
    assert flips == {0, 1}
    assert [shot.position for shot in stage.shots[:6]] == [0, 1, 2, 3, 4, 5]


def test_a_support_set_is_needed_and_needs_every_class(
    tiny: Path, tmp_path: Path, run_of: Runner
) -> None:
    with pytest.raises(ConfigError, match=r"methods\.gda\.support\.dataset: give a dataset"):
        run_of("scores.methods=[gda]")
    config = yaml.safe_load(tiny.read_text())
    other = tmp_path / "other.yaml"
    root = config["dataset"]["root"]
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["something", "else"]))
    config["dataset"] = {"name": "other", "root": root, "names": str(names)}
    other.write_text(yaml.safe_dump(config))
    run = supported(other, run_of)
    with pytest.raises(
        AbsError, match=r"support set 'other': no image of '.*; it needs each class"
    ):
        run.named("embeddings-support")[0].check()


def test_no_label_of_a_scored_image_reaches_the_scores(
    made: Run, tiny: Path, run_of: Runner
) -> None:
    """Scores are the same whatever the index says of the images' classes."""
    run = supported(tiny, run_of, passes=1)
    make_all(run)
    worker = run.named("scores")[0].worker(run.store)
    before = array(run, "scores", "logits")
    worker.images["label"] = 0  # type: ignore[attr-defined]
    unit = run.named("scores")[0].units(run.store)[0]
    found = worker.compute(unit, worker.read(unit))["logits"]
    assert np.array_equal(found, before[unit.rows])
    assert digests(run)["embeddings-support"]


def test_a_classifier_of_single_images_has_no_support_set(tiny: Path) -> None:
    given = {"scores.methods": ["gda"], "methods.gda.support.dataset": str(tiny)}
    with pytest.raises(ConfigError, match="a method reads embeddings-support, which is made for"):
        Classifier.of(str(tiny), settings=given)
