"""Datasets, models and texts on which tests compare the pipeline with the reference.

A case has six pictures of several shapes (one grey, with odd sides), three classes with different
numbers of texts, and six crops in blocks of three. Its models are the demo's, whose grids for
tokens and attention are equal, or small random ones whose token grid is coarser or finer than the
attention's. No value of any weight is assumed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from PIL import Image
from torch import Tensor

from pipeline.run import Run
from pipeline.stage import needed
from tests.helpers import small_models
from tests.helpers.runs import DEMO
from tests.reference import formulas as ref
from tests.reference.crops import (
    Crop,
    Picture,
    Profile,
    axes_of,
    crops_of,
    layered_uniforms,
    profiles,
)

N, M, POOL, SQUARES = 6, 6, 8, 5
BOX = ["box_left", "box_top", "box_right", "box_bottom"]
WINDOW = ["window_left", "window_top", "window_right", "window_bottom"]
SIDES = {"coarser": (56, 8), "finer": (64, 4)}
METHODS = ["clip", "clip-e", "clip-d", "waffle", "cupl", "wca", "abs"]
PROFILES = profiles(N)
TEMPLATES = ["a {}.", "one {}, drawn.", "{}"]
CLAUSES = {
    "a long bill": "which is a long bill",
    "has spots": "which has spots",
    "red legs": "which has red legs",
    "used nests": "which is used nests",
}
"""Descriptors, and the clause that each becomes after a class name."""


@dataclass(frozen=True, eq=False)
class Case:
    """A dataset with models, and its artifacts under any settings, computed on request."""

    folder: Path
    _made: dict[tuple[str, ...], Run] = field(default_factory=dict, init=False)
    _decided: dict[Profile, list[int]] = field(default_factory=dict, init=False)

    @cached_property
    def classes(self) -> list[str]:
        """Class names in the order of labels."""
        return [each.name.replace("_", " ") for each in sorted((self.folder / "images").iterdir())]

    @cached_property
    def run(self) -> Run:
        """Finished run of the official profile."""
        return self.made("metrics")

    def made(self, target: str, *changes: str, profile: str = "official") -> Run:
        """Return a run in which `target` is finished, after computing whatever is missing.

        Processes that share the case share its store.
        """
        asked = target, profile, *changes
        if asked not in self._made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ABS_ARTIFACTS", str(self.folder / "artifacts"))
                patch.delenv("ABS_DATA", raising=False)
                patch.delenv("ABS_WEIGHTS", raising=False)
                run = Run.of(str(self.folder / "tiny.yaml"), profile, [f"scores.m={M}", *changes])
                run.execute(needed(run.named(target), run.stages), [], quiet=True)
            self._made[asked] = run
        return self._made[asked]

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

    def picture(self, i: int, profile: Profile) -> Picture:
        """Return image `i` as the reference crops it under a profile."""
        size = self.images[i].size
        axes = axes_of(size, self.clip.side, self.clip.grid, profile.view)
        return Picture(size, axes, profile)

    def crops(self, i: int, profile: Profile, attention: list[float]) -> list[Crop]:
        """Compute the reference's crops of image `i` from its attention."""
        u = layered_uniforms(self.files[i], profile.seed, profile.n)
        return crops_of(attention, u, self.picture(i, profile))

    def decided(self, profile: Profile) -> list[int]:
        """List the images whose crops do not change with float rounding of the attention."""
        if profile not in self._decided:
            images = range(len(self.files))
            self._decided[profile] = [i for i in images if self._is_decided(i, profile)]
        return self._decided[profile]

    def _is_decided(self, i: int, profile: Profile) -> bool:
        exact = self.maps[i][-1]
        noise = np.random.default_rng(0).uniform(-5e-7, 5e-7, (20, len(exact)))
        found = self.crops(i, profile, exact)
        return all(self.crops(i, profile, (exact + shift).tolist()) == found for shift in noise)

    def features(self, i: int, profile: Profile) -> list[np.ndarray]:
        """Compute Algorithm 1 from the image file: vectors of feature crops, then of raw crops."""
        image, last = self.images[i], len(self.clip.blocks) - 1
        drawn = self.crops(i, profile, self.maps[i][-1])
        tokens = self.clip.tokens_before(image, last)
        vectors = [self.clip.encode_window(tokens, crop.window, last) for crop in drawn]
        vectors += [self.clip.encode_box(image, crop.box) for crop in drawn]
        return [vector.numpy() for vector in vectors]

    @cached_property
    def images_embedded(self) -> list[np.ndarray]:
        """Vectors of the whole images, float64."""
        return [self.clip.encode_image(image).numpy() for image in self.images]

    @cached_property
    def sentences(self) -> dict[str, list[list[str]]]:
        """Texts by text set and class; Waffle's are read from the store, as they are random."""
        prompts = json.loads((self.folder / "cupl.json").read_text())
        told = json.loads((self.folder / "clip-d.json").read_text())
        rows = table(self.run, "descriptions-waffle", "texts")
        return {
            "clip": [[f"a photo of a {name}."] for name in self.classes],
            "clip-e": [[t.replace("{}", name) for t in TEMPLATES] for name in self.classes],
            "clip-d": [[f"{name}, {CLAUSES[d]}" for d in told[name]] for name in self.classes],
            "waffle": [rows.query(f"label == {c}")["text"].tolist() for c in range(3)],
            "cupl": [prompts[name] for name in self.classes],
        }

    @cached_property
    def texts(self) -> dict[str, list[list[np.ndarray]]]:
        """Vectors of the texts by text set and class, float64."""
        tokenizer = small_models.clip_parts(self.folder / "models" / "clip")[3]

        def encoded(sentence: str) -> np.ndarray:
            vector: Tensor = self.clip.encode_text(tokenizer([sentence])[0].tolist())
            return np.asarray(vector.numpy())

        return {
            name: [[encoded(sentence) for sentence in group] for group in groups]
            for name, groups in self.sentences.items()
        }


# --- Stored results --------------------------------------------------------------------------


def array(run: Run, stage: str, name: str = "embeddings") -> np.ndarray:
    path = run.store.artifact(run.named(stage)[0]).path
    return np.asarray(zarr.open_array(path / f"{name}.zarr", mode="r")[:])


def table(run: Run, stage: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.store.artifact(run.named(stage)[0]).path / f"{name}.parquet")


def crops_table(run: Run, views: str, n: int = N) -> pd.DataFrame:
    rows = table(run, f"crops-{views}", "crops").sort_values(["image", "crop"])
    return rows.query(f"crop < {n}")


def boxes(rows: pd.DataFrame, columns: list[str]) -> list[list[ref.Box]]:
    """Return stored boxes or windows by image and crop."""
    values = rows[columns].to_numpy().reshape(rows["image"].nunique(), -1, 4).tolist()
    return [[(box[0], box[1], box[2], box[3]) for box in image] for image in values]


def windows_of(run: Run) -> list[list[ref.Box]]:
    """Return stored windows by image and crop."""
    return boxes(crops_table(run, "feature"), WINDOW)


def feature_vectors(run: Run, n: int = N) -> np.ndarray:
    """Return stored vectors of the feature crops; of all windows, select those of the outcomes."""
    stored = array(run, "embeddings-feature")
    if "crops-windows" not in [stage.name for stage in run.stages]:
        return stored[:, :n]
    outcomes = crops_table(run, "feature", n)["outcome"].to_numpy().reshape(-1, n)
    return np.stack([stored[i, chosen] for i, chosen in enumerate(outcomes)])


def stored_texts(run: Run, name: str) -> list[list[np.ndarray]]:
    labels = table(run, f"descriptions-{name}", "texts")["label"]
    vectors = array(run, f"descriptions-{name}")
    return [list(vectors[labels == label].astype(np.float64)) for label in sorted(set(labels))]


# --- The dataset -----------------------------------------------------------------------------


def write_case(folder: Path, name: str) -> None:
    """Write a case: "demo" with the demo's models, or a name in `SIDES` with small random ones."""
    classes = write_images(folder / "images")
    write_models(folder / "models", name)
    write_prompts(folder, classes)
    write_settings(folder)


def write_images(folder: Path) -> list[str]:
    """Write two pictures of each of three classes; return the class names.

    They are square, landscape and portrait, and one is grey with odd sides.
    """
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


def write_prompts(folder: Path, classes: list[str]) -> None:
    """Write prompt files with 8, 5 and 3 sentences for the classes, of which ABS uses the first 6.

    The numbers of descriptors differ by class too.
    """
    prompts = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    sentences = {name: prompts[name][:m] for name, m in zip(classes, (8, 5, 3), strict=True)}
    descriptors = {name: [*CLAUSES][i : i + 2 + i] for i, name in enumerate(classes)}
    for name, told in (("cupl", sentences), ("clip-d", descriptors)):
        (folder / f"{name}.json").write_text(json.dumps(dict(reversed(told.items()))))
    (folder / "clip-e.json").write_text(json.dumps(TEMPLATES))
    (folder / "words.txt").write_text("plover\nreed\nstilt\nwillow\n")


def write_settings(folder: Path) -> None:
    models = f"local-dir:{folder}/models"
    files = {name: {"file": f"{folder}/{name}.json"} for name in ("clip-e", "clip-d", "cupl")}
    waffle = {"file": f"{folder}/clip-d.json", "words": f"{folder}/words.txt", "pairs": 2}
    sections = {
        "dataset": {"name": "tiny", "root": str(folder / "images")},
        "clip": {"model": f"{models}/clip", "weights": None},
        "attention": {"model": f"{models}/attention", "weights": None},
        "descriptions": {**files, "waffle": waffle},
        "layout": {"images": 4, "crops": 3},
        "scores": {"n": N, "logit_scale": 100.0},
        "methods": {"wca": {"pool": POOL, "n": SQUARES}},
        "runtime": {"device": "cpu", "batch_size": 5, "threads": 1},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(sections))
