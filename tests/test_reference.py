"""The pipeline, stage by stage and end to end, against the float64 reference.

Six pictures of several shapes (one grey, of odd sides), three classes with ragged descriptions,
six crops in blocks of three; with the demo's models, whose grids are alike, and with small random
ones whose token grids are coarser and finer than the attention's. No value of any weight is
assumed. Each stage is held to the reference fed with what the stage before it stored; the last
tests go from the files to the scores in float64.

Stored embeddings are float16 (unit roundoff 2^-11), which bounds what a score may be off.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from PIL import Image

from pipeline.commands import Run
from pipeline.locations import PROJECT
from pipeline.run import needed
from tests import reference as ref
from tests import small_models

DEMO = PROJECT / "pipeline" / "demo"
N = 6
LIMIT = 6
PROFILE = ref.Profile(n=N)
ROUNDOFF = 2.0**-11
BOX = ["box_left", "box_top", "box_right", "box_bottom"]
WINDOW = ["window_left", "window_top", "window_right", "window_bottom"]
SIDES = {"coarser": (56, 8), "finer": (64, 4)}


@dataclass(frozen=True)
class Case:
    """A dataset with models, and its artifacts under any settings."""

    folder: Path
    classes: list[str]

    @cached_property
    def run(self) -> Run:
        return self.with_changes("metrics")

    def with_changes(self, target: str, *changes: str) -> Run:
        """The run under other settings, made as far as `target`."""
        run = Run.of(str(self.folder / "tiny.yaml"), "official", changes)
        run.execute(needed(run.named(target), run.stages), [], quiet=True)
        return run

    @cached_property
    def files(self) -> list[Path]:
        return sorted((self.folder / "images").glob("*/*"))

    @cached_property
    def labels(self) -> list[int]:
        names = [name.replace(" ", "_") for name in self.classes]
        return [names.index(file.parent.name) for file in self.files]

    @cached_property
    def images(self) -> list[Image.Image]:
        return [Image.open(file).convert("RGB") for file in self.files]

    @cached_property
    def clip(self) -> ref.Clip:
        module, config, preprocess, _ = small_models.clip_parts(self.folder / "models" / "clip")
        return ref.Clip(module, config, preprocess["mean"], preprocess["std"])

    @cached_property
    def vit(self) -> ref.Vit:
        return ref.Vit(small_models.vit_module(self.folder / "models" / "attention"))

    @cached_property
    def maps(self) -> list[list[list[float]]]:
        """Attention by image, layer and patch."""
        return [self.vit.attention(image) for image in self.images]

    @cached_property
    def texts(self) -> dict[str, list[list[np.ndarray]]]:
        """Text vectors by method and class."""
        prompts = json.loads((self.folder / "cupl.json").read_text())
        return {
            "clip": [[self._text(f"a photo of a {name}.")] for name in self.classes],
            "cupl": [[self._text(s) for s in prompts[name][:LIMIT]] for name in self.classes],
        }

    @cached_property
    def features(self) -> dict[int, list[np.ndarray]]:
        """Float64 vectors of all crops, drawn from float64 attention, by image."""
        return {
            i: ref.abs_features(self.files[i], self.maps[i][-1], self.clip, PROFILE)
            for i in range(len(self.files))
            if decided(self, i)
        }

    def _text(self, sentence: str) -> np.ndarray:
        tokenizer = small_models.clip_parts(self.folder / "models" / "clip")[3]
        return self.clip.encode_text(tokenizer([sentence])[0].tolist()).numpy()


def array(run: Run, stage: str, name: str = "embeddings") -> np.ndarray:
    path = run.store.artifact(run.named(stage)[0]).path
    return np.asarray(zarr.open_array(path / f"{name}.zarr", mode="r")[:])


def table(run: Run, stage: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.store.artifact(run.named(stage)[0]).path / f"{name}.parquet")


def crops_table(run: Run) -> pd.DataFrame:
    return table(run, "crops", "crops").sort_values(["image", "crop"]).query(f"crop < {N}")


def boxes(run: Run, columns: list[str]) -> list[list[ref.Box]]:
    """Stored boxes or windows by image and crop."""
    rows = crops_table(run)[columns].to_numpy().reshape(-1, N, 4)
    return [[tuple(int(v) for v in box) for box in image] for image in rows]


def stored_texts(run: Run, method: str) -> list[list[np.ndarray]]:
    labels = table(run, f"descriptions-{method}", "texts")["label"]
    vectors = array(run, f"descriptions-{method}")
    return [list(vectors[labels == label].astype(np.float64)) for label in sorted(set(labels))]


# --- The dataset -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["demo", *SIDES])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp(request.param)
    classes = write_images(folder / "images")
    write_models(folder / "models", request.param)
    write_prompts(folder / "cupl.json", classes)
    write_dataset(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder / "artifacts"))
        patch.delenv("ABS_DATA", raising=False)
        patch.delenv("ABS_WEIGHTS", raising=False)
        yield Case(folder, classes)


def write_images(folder: Path) -> list[str]:
    """Two pictures of each of three classes: squares, both oblongs, and a grey one of odd sides."""
    sources = sorted(path for path in (DEMO / "images").iterdir() if path.is_dir())[:3]
    for place, source in enumerate(sources):
        (folder / source.name).mkdir(parents=True)
        for file in sorted(source.iterdir())[place : place + 2]:
            shutil.copy(file, folder / source.name / file.name)
    last = max((folder / sources[2].name).iterdir())
    grey = Image.open(last).convert("L").resize((171, 97))
    last.unlink()
    grey.save(last.with_name("odd.png"))
    return [source.name.replace("_", " ") for source in sources]


def write_models(folder: Path, which: str) -> None:
    if which == "demo":
        shutil.copytree(DEMO / "models", folder)
        return
    sizes = {"img_size": 56, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2}
    small_models.write_vit(folder / "attention", "vit_small_patch16_224", **sizes)
    small_models.write_clip(folder / "clip", *SIDES[which])


def write_prompts(file: Path, classes: list[str]) -> None:
    """Eight sentences, five and three, of which the first six are to be used."""
    prompts = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    ragged = {name: prompts[name][:m] for name, m in zip(classes, (8, 5, 3), strict=True)}
    file.write_text(json.dumps(dict(reversed(ragged.items()))))


def write_dataset(folder: Path) -> None:
    models = f"local-dir:{folder}/models"
    sections = {
        "dataset": {"name": "tiny", "root": str(folder / "images")},
        "clip": {"model": f"{models}/clip", "weights": None},
        "attention": {"model": f"{models}/attention", "weights": None},
        "descriptions": {"cupl": {"file": str(folder / "cupl.json"), "limit": LIMIT}},
        "layout": {"images": 4, "crops": 3},
        "scores": {"n": N},
        "runtime": {"device": "cpu", "batch_size": 5},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(sections))


# --- Stage by stage --------------------------------------------------------------------------


def test_index_lists_every_file(case: Case) -> None:
    rows = table(case.run, "index", "images")
    assert list(rows["path"]) == [f"{file.parent.name}/{file.name}" for file in case.files]
    assert list(rows["label"]) == case.labels
    assert list(zip(rows["width"], rows["height"], strict=True)) == [i.size for i in case.images]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in case.files]
    assert list(rows["sha256"]) == digests
    assert len({image.size for image in case.images}) >= 4


def test_attention_of_every_layer(case: Case) -> None:
    stored = array(case.run, "attention", "attention")
    images, layers, rows, columns = stored.shape
    assert (images, layers, rows * columns) == np.shape(case.maps)
    assert rows == columns
    assert np.abs(stored.reshape(images, layers, -1) - case.maps).max() <= 1e-5


@pytest.mark.parametrize(
    ("changes", "layer", "profile"),
    [
        ([], -1, PROFILE),
        (["crops.seed=7"], -1, replace(PROFILE, seed=7)),
        (["crops.layer=0", "crops.k=3"], 0, replace(PROFILE, k=3)),
        (["crops.temperature=0.002"], -1, replace(PROFILE, tau=0.002)),
        (["crops.alpha=0.3", "crops.beta=0.7"], -1, replace(PROFILE, alpha=0.3, beta=0.7)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_crops_of_the_stored_attention(
    case: Case, changes: list[str], layer: int, profile: ref.Profile
) -> None:
    run = case.with_changes("crops", *changes)
    stored = crops_table(run)
    maps = array(run, "attention", "attention").astype(np.float64)[:, layer]
    expected = [
        ref.crops_of(row, ref.file_uniforms(file, profile.seed, N), size, case.clip.grid, profile)
        for row, file, size in zip(
            maps.reshape(len(maps), -1).tolist(),
            case.files,
            [image.size for image in case.images],
            strict=True,
        )
    ]
    flat = [crop for crops in expected for crop in crops]
    assert stored["image"].tolist() == [i for i in range(len(case.files)) for _ in range(N)]
    assert stored["patch"].tolist() == [crop.patch for crop in flat]
    assert boxes(run, BOX) == [[crop.box for crop in crops] for crops in expected]
    assert stored["token"].tolist() == [crop.token for crop in flat]
    assert boxes(run, WINDOW) == [[crop.window for crop in crops] for crops in expected]


def test_text_embeddings(case: Case) -> None:
    for method, expected in case.texts.items():
        stored = stored_texts(case.run, method)
        assert [len(group) for group in stored] == [len(group) for group in expected]
        assert np.abs(np.concatenate(stored) - np.concatenate(expected)).max() <= 1e-5


def test_whole_image_embeddings(case: Case) -> None:
    stored = array(case.run, "embeddings-image")
    assert stored.dtype == np.float16
    assert stored.shape[:2] == (len(case.files), 1)
    expected = [case.clip.encode_image(image).numpy() for image in case.images]
    assert np.abs(stored[:, 0] - expected).max() <= 5e-4


def test_raw_crop_embeddings_of_the_stored_boxes(case: Case) -> None:
    stored = array(case.run, "embeddings-raw")[:, :N]
    assert stored.dtype == np.float16
    for image, vectors, cut in zip(case.images, stored, boxes(case.run, BOX), strict=True):
        expected = [ref.raw_embedding(case.clip, image, box).numpy() for box in cut]
        assert np.abs(vectors - expected).max() <= 5e-4


@pytest.mark.parametrize("layer", [-1, 1, 0])
def test_feature_crop_embeddings_of_the_stored_windows(case: Case, layer: int) -> None:
    run = case.with_changes("embeddings-feature", f"feature.layer={layer}")
    stored = array(run, "embeddings-feature")[:, :N]
    block = layer % len(case.clip.blocks)
    for image, vectors, cut in zip(case.images, stored, boxes(run, WINDOW), strict=True):
        tokens = case.clip.tokens_before(image, block)
        expected = [case.clip.encode_window(tokens, window, block).numpy() for window in cut]
        assert np.abs(vectors - expected).max() <= 5e-4


def test_feature_layers_differ(case: Case) -> None:
    runs = [case.with_changes("embeddings-feature", f"feature.layer={i}") for i in (-1, 1, 0)]
    last, second, first = (array(run, "embeddings-feature")[:, :N] for run in runs)
    assert min(np.abs(last - second).max(), np.abs(second - first).max()) > 2e-3


# --- Scores ----------------------------------------------------------------------------------


def logits_of_stored(run: Run, temperature: float, n: int) -> np.ndarray:
    """(images, clip / cupl / abs, classes) by the reference, of what the stages before stored."""
    image = array(run, "embeddings-image").astype(np.float64)
    names = ("embeddings-feature", "embeddings-raw")
    crops = np.concatenate([array(run, name)[:, :n] for name in names], axis=1)
    texts = {method: stored_texts(run, method) for method in ("clip", "cupl")}
    return np.array(
        [
            [
                ref.mean_scores(image[i, 0], texts["clip"]),
                ref.mean_scores(image[i, 0], texts["cupl"]),
                ref.soft_scores(crops[i].astype(np.float64), texts["cupl"], temperature),
            ]
            for i in range(len(image))
        ]
    )


@pytest.mark.parametrize(
    ("changes", "temperature", "n"),
    [
        ([], 0.03, N),
        (["scores.temperature=0.01"], 0.01, N),
        (["scores.temperature=0.02", "scores.logit_scale=50"], 0.04, N),
        (["scores.n=4"], 0.03, 4),
    ],
)
def test_logits_of_the_stored_embeddings(
    case: Case, changes: list[str], temperature: float, n: int
) -> None:
    run = case.with_changes("scores", *changes)
    stored = array(run, "scores", "logits")
    assert methods(run) == ["clip", "cupl", "abs"]
    assert stored.dtype == np.float32
    rounding = 1e-5 * max(1.0, 0.03 / temperature)
    expected = logits_of_stored(run, temperature, n)
    assert stored == pytest.approx(expected, rel=rounding, abs=1e-6)


def methods(run: Run) -> list[str]:
    return list(run.settings.scores.methods)


def test_scores_say_what_the_logits_say(case: Case) -> None:
    rows = table(case.run, "scores", "scores").set_index(["image_id", "method"])
    ids = table(case.run, "index", "images")["image_id"]
    logits = array(case.run, "scores", "logits").tolist()
    assert len(rows) == len(case.files) * 3
    for i, (m, method) in product(range(len(case.files)), enumerate(methods(case.run))):
        row, scores = rows.loc[(ids[i], method)], logits[i][m]
        order = ref.ranked(scores)
        assert row["label"] == case.labels[i]
        assert row["pred"] == order[0]
        assert list(row["top5"]) == order[:5]
        assert row["rank"] == ref.rank_of(case.labels[i], scores)
        assert row["correct"] == (row["rank"] == 1)
        others = [s for c, s in enumerate(scores) if c != case.labels[i]]
        assert row["margin"] == pytest.approx(scores[case.labels[i]] - max(others), abs=1e-6)


# --- End to end ------------------------------------------------------------------------------


def draws(attention: list[float], u: np.ndarray) -> list[int]:
    """The patches that six rows of uniforms choose, for raw and for feature crops."""
    chances = ref.patch_probabilities(attention, PROFILE.k, PROFILE.tau)
    return [ref.drawn(chances, value) for value in u[:, [0, 3]].flatten()]


def decided(case: Case, i: int) -> bool:
    """Whether float rounding of the attention cannot change what is drawn for an image."""
    u = ref.file_uniforms(case.files[i], PROFILE.seed, N)
    exact = case.maps[i][-1]
    noise = np.random.default_rng(0).uniform(-5e-7, 5e-7, (20, len(exact)))
    return all(draws((exact + shift).tolist(), u) == draws(exact, u) for shift in noise)


def test_crops_from_the_files_alone(case: Case) -> None:
    chosen = [i for i in range(len(case.files)) if decided(case, i)]
    assert len(chosen) >= 3
    for i in chosen:
        u = ref.file_uniforms(case.files[i], PROFILE.seed, N)
        size, grid = case.images[i].size, case.clip.grid
        crops = ref.crops_of(case.maps[i][-1], u, size, grid, PROFILE)
        assert boxes(case.run, BOX)[i] == [crop.box for crop in crops]
        assert boxes(case.run, WINDOW)[i] == [crop.window for crop in crops]


@dataclass(frozen=True)
class Exact:
    """Float64 logits of one image, and how far float16 embeddings may move each."""

    logits: list[float]
    bounds: np.ndarray

    @property
    def certain(self) -> bool:
        """Whether the order of the classes is beyond what rounding can change."""
        low, high = self.logits - self.bounds, self.logits + self.bounds
        pairs = combinations(range(len(self.logits)), 2)
        return all(low[a] > high[b] or low[b] > high[a] for a, b in pairs)


def exact_abs(case: Case, i: int) -> Exact:
    """Soft matching in float64, with its error bound.

    A component is off by 2^-11 of itself at most, so a similarity by d = 2^-11 at most, and a
    softmax weight by a factor within exp(+-2 d / T).
    """
    features, texts = case.features[i], case.texts["cupl"]
    factor = math.exp(2 * ROUNDOFF / PROFILE.temperature)
    sims = np.array(features) @ np.concatenate(texts).T
    weights = np.exp((sims - sims.max(axis=1, keepdims=True)) / PROFILE.temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    moved = (weights * ((factor - 1) * np.abs(sims) + factor * ROUNDOFF)).sum(axis=0)
    ends = np.cumsum([len(group) for group in texts])[:-1]
    bounds = np.array([part.sum() for part in np.split(moved, ends)])
    return Exact(ref.soft_scores(features, texts, PROFILE.temperature), bounds)


def exact_mean(case: Case, i: int, method: str) -> Exact:
    """Eq. 1 in float64; a similarity is off by 2^-11 at most."""
    vector = case.clip.encode_image(case.images[i]).numpy()
    logits = ref.mean_scores(vector, case.texts[method])
    return Exact(logits, np.full(len(logits), ROUNDOFF))


def test_scores_from_the_files_alone(case: Case) -> None:
    """Logits within the bound of float16; rank and prediction wherever it cannot move them."""
    stored = array(case.run, "scores", "logits")
    rows = table(case.run, "scores", "scores").set_index(["method", "image_id"])
    ids = table(case.run, "index", "images")["image_id"]
    certain = 0
    for i, (m, method) in product(case.features, enumerate(methods(case.run))):
        exact = exact_abs(case, i) if method == "abs" else exact_mean(case, i, method)
        assert (np.abs(stored[i, m] - exact.logits) <= exact.bounds + 1e-5).all()
        if exact.certain:
            row = rows.loc[(method, ids[i])]
            assert row["pred"] == ref.ranked(exact.logits)[0]
            assert row["rank"] == ref.rank_of(case.labels[i], exact.logits)
            certain += 1
    assert certain >= len(case.features)


def test_float16_is_all_that_separates_abs_from_float64(case: Case) -> None:
    """Of float64 embeddings rounded as the stored ones are: 2 in a thousand remain.

    A component that lies on the edge between two float16 may still round the other way.
    """
    stored = array(case.run, "scores", "logits")[:, methods(case.run).index("abs")]
    for i, features in case.features.items():
        rounded = [feature.astype(np.float16).astype(np.float64) for feature in features]
        expected = ref.soft_scores(rounded, case.texts["cupl"], PROFILE.temperature)
        assert stored[i] == pytest.approx(expected, rel=2e-3, abs=2e-4 * max(map(abs, expected)))
