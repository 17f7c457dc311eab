"""The dataset and the models that both implementations of a benchmark share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import timm
import yaml

from pipeline.bench import plain
from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.datasets.images import Images
from pipeline.models.clip.model import build
from pipeline.run import Run
from pipeline.store.store import Store
from pipeline.views.config import BOX, WINDOW

CLIP, VIT = "ViT-B-16-quickgelu", "vit_base_patch16_224.dino"
N = 60
"""Number of crops of a branch, as in the paper."""
CLASS_NAMES = ("one", "other")
TEXTS = [f"a photo with {i} things" for i in range(8)]
"""Texts of each class: few, because a dataset's texts are encoded only once."""


@dataclass(frozen=True)
class Case:
    """A dataset of a few images, and the models that both implementations share."""

    folder: Path
    files: list[Path]

    @classmethod
    def of(cls, folder: Path, images: Path, number: int) -> Case:
        """Choose images at even distances in the sorted list of a folder's images, in two classes.

        Raises AbsError if the folder has fewer than `number` images.
        """
        paths = sorted(
            p for p in images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        if len(paths) < number:
            raise AbsError(f"{images} has {len(paths)} images, fewer than {number}")
        for i in range(number):
            source = paths[i * len(paths) // number]
            class_folder = folder / "images" / CLASS_NAMES[i % 2]
            class_folder.mkdir(parents=True, exist_ok=True)
            (class_folder / f"{i:03d}{source.suffix}").symlink_to(source.resolve())
        files.write_json(folder / "texts.json", dict(zip(CLASS_NAMES, (TEXTS, TEXTS), strict=True)))
        config = {
            "dataset": {"name": "bench", "root": str(folder / "images")},
            "clip": {"model": CLIP, "weights": "random:0"},
            "attention": {"model": VIT, "weights": "random:0"},
            "descriptions": {"cupl": {"file": str(folder / "texts.json")}},
            "scores": {"methods": ["abs"], "n": N},
            "layout": {"images": number, "crops": N},
        }
        (folder / "bench.yaml").write_text(yaml.safe_dump(config))
        return cls(folder, sorted((folder / "images").glob("*/*")))

    def run(self, store: str, *overrides: str) -> Run:
        """Return a run on the images, with the store `store` below the folder of the case."""
        os.environ["ABS_ARTIFACTS"] = str(self.folder / store)
        return Run.of(
            str(self.folder / "bench.yaml"), "official", ["windows.encode=drawn", *overrides]
        )

    @cached_property
    def finished(self) -> Run:
        """Run in float32, with every stage finished."""
        run = self.run("float32", "scores.methods=[clip,cupl,abs]")
        run.execute(run.stages, [], quiet=True)
        return run

    @cached_property
    def workers(self) -> dict[str, Any]:
        """Workers of the stages that run a model, by stage name."""
        names = ("attention", "embeddings-image", "embeddings-raw", "embeddings-feature")
        return {name: self.finished.named(name)[0].worker(self.finished.store) for name in names}

    @cached_property
    def plain(self) -> plain.Plain:
        """Plain implementation with the same CLIP weights."""
        stage, device = self.finished.named("embeddings-raw")[0], self.clip.device
        model, *_ = build(stage.clip)  # type: ignore[attr-defined]
        vit = timm.create_model(VIT)
        return plain.Plain(model.eval().to(device), vit.eval().to(device))

    @property
    def clip(self) -> Any:
        """CLIP in float32."""
        return self.workers["embeddings-raw"].clip

    @cached_property
    def auto_clip(self) -> Any:
        """CLIP in the precision that suits the device best."""
        run = self.run("half", "clip.precision=auto")
        return run.named("embeddings-raw")[0].worker(self.finished.store).clip  # type: ignore[attr-defined]

    @cached_property
    def plain_stages(self) -> dict[str, Callable[[], Any]]:
        """Plain implementation of each stage in `workers`, by stage name."""
        tables = {
            name: self.finished.store.open(self.finished.named(name)[0]).table("crops")
            for name in ("crops-raw", "crops-feature")
        }
        shape = len(self.files), N, 4
        boxes = tables["crops-raw"][BOX].to_numpy().reshape(shape)
        windows = tables["crops-feature"][WINDOW].to_numpy().reshape(shape)
        return {
            "attention": lambda: self.plain.attention(self.files),
            "embeddings-image": lambda: self.plain.images(self.files),
            "embeddings-raw": lambda: self.plain.boxes(self.files, boxes),
            "embeddings-feature": lambda: self.plain.windows(self.files, windows),
        }

    def work(self, name: str) -> Any:
        """Run a stage's worker on all images, as `work_of`."""
        return work_of(self.workers[name], self.finished.named(name)[0], self.finished.store)


def work_of(worker: Any, stage: Any, store: Store) -> Any:
    """Run a worker on its stage's only unit, without images or tokens cached by earlier calls."""
    table = store.open(stage.index).table("images")
    fresh: dict[str, Any] = {"images": Images(worker.images._contents, table)}
    if hasattr(worker, "_tokens"):
        fresh["_tokens"] = {}
    worker = replace(worker, **fresh)
    worker.disable_reuse()  # otherwise views are copied from the store instead of embedded
    (unit,) = stage.units(store)
    return worker.compute(unit, worker.read(unit))
