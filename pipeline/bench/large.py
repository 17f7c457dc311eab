"""Make a finished store of many images: `python pipeline/bench/large.py FOLDER IMAGES [STAGE]`.

Units, files, receipts and manifests are as many as those of a real run with N = 60, written by the
engine and the store of whatever build is imported; outputs are small constants. The images are
valid PNG files of one pixel in WebDataset shards. Run as a script with another build on PYTHONPATH,
it measures that build. With a stage, that one alone is computed anew, and its peak memory printed.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from pipeline.core.progress import Reporter
from pipeline.engine.runner import run_stage
from pipeline.run import Run
from pipeline.stage import Stage, Worker
from pipeline.store.store import Store
from pipeline.store.units import ArraySpec, Unit

CLASSES, SHARD = 10, 10_000
"""Number of classes, and images in a shard."""
METHODS = ["clip", "cupl", "abs"]
REAL = ("index", "descriptions", "metrics")
"""Kinds of stages that are computed as they are."""


def write_shards(folder: Path, images: int, size: int = SHARD) -> Path:
    """Write shards of distinct images of one pixel with numbers as labels; return their folder."""
    picture = io.BytesIO()
    Image.new("RGB", (1, 1), (90, 20, 60)).save(picture, "PNG")
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, images, size)):
        with open(folder / f"test-{number:05d}.tar", "wb") as file:
            for i in range(first, min(first + size, images)):
                file.write(_member(f"{i:08d}.png", picture.getvalue() + b"%d" % i))
                file.write(_member(f"{i:08d}.cls", b"%d" % (i % CLASSES)))
            file.write(bytes(2 * tarfile.BLOCKSIZE))
    (folder / "classes.txt").write_text("".join(f"bird {i}\n" for i in range(CLASSES)))
    return folder


def _member(name: str, content: bytes) -> bytes:
    """Return the blocks of a file in a tar archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def write_dataset(folder: Path, images: int) -> Path:
    """Write shards, descriptions and the YAML of a dataset with N = 60; return its path."""
    root = write_shards(folder / "shards", images)
    texts = {f"bird {i}": [f"a bird with {i} spots"] for i in range(CLASSES)}
    (folder / "cupl.json").write_text(json.dumps(texts))
    config = {
        "dataset": {"name": "large", "root": str(root), "reader": "webdataset"},
        "clip": {"model": "ViT-B-32", "weights": "random:0"},
        "attention": {"model": "vit_base_patch16_224.dino", "weights": "random:0"},
        "descriptions": {"cupl": {"file": str(folder / "cupl.json")}},
        "scores": {"methods": METHODS, "n": 60},
    }
    path = folder / "large.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class ConstantWorker(Worker):
    """A worker that writes the same small outputs for every unit."""

    def __init__(self, stage: Stage, images: pd.DataFrame) -> None:
        self._stage, self._images = stage, images
        self._rows = np.zeros(1, np.int64)

    def arrays(self) -> list[ArraySpec]:
        """Declare the array of an encoder with vectors of two values, or the logits of scores."""
        count, stage = len(self._images), self._stage
        block = getattr(stage, "image_block", 128)
        if stage.kind == "attention":
            return [ArraySpec("attention", ("image", "dim"), (count, 1), (block, 1), "float32")]
        if stage.kind == "embeddings":
            views = 60 if stage.variant != "image" else 1
            each = 10 if stage.variant != "image" else 1
            dims, shape = ("image", "view", "dim"), (count, views, 2)
            return [ArraySpec("embeddings", dims, shape, (block, each, 2), "float16")]
        if stage.kind == "scores":
            logits = (count, len(METHODS))
            names = {"methods": METHODS, "labels": list(range(CLASSES))}
            return [ArraySpec("logits", ("image", "method"), logits, (block, 3), "float32", names)]
        return []

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Return constants, and scores by which every fifth image is wrong."""
        rows = unit.rows.stop - unit.rows.start
        if self._stage.kind == "crops":
            return {"crops": pd.DataFrame({"image": self._rows, "crop": self._rows})}
        if self._stage.kind == "scores":
            classes = {"label": range(CLASSES), "name": [f"bird {i}" for i in range(CLASSES)]}
            table = {"classes": pd.DataFrame({**classes, "present": True})}
            return {
                "logits": np.zeros((rows, len(METHODS)), np.float32),
                "scores": self._scores(self._images.iloc[unit.rows]),
                **(table if unit.rows.start == 0 else {}),
            }
        (spec,) = self.arrays()
        views = (spec.chunks[1],) if len(spec.chunks) > 1 else ()
        return {spec.name: np.zeros((rows, *views, *spec.chunks[2:]), spec.dtype)}

    def _scores(self, images: pd.DataFrame) -> pd.DataFrame:
        label = images["label"].to_numpy()
        pred = np.where(np.arange(len(label)) % 5, label, (label + 1) % CLASSES)
        columns = {"image_id": images["image_id"].to_numpy(), "label": label, "pred": pred}
        more = {"correct": pred == label, "rank": 1 + (pred != label), "top5": True}
        table = pd.DataFrame({**columns, **more, "margin": 0.1, "confidence": 0.5})
        return pd.concat([table.assign(method=name) for name in METHODS], ignore_index=True)


def make(folder: Path, images: int, only: str | None = None) -> None:
    """Write a dataset, unless it is there, and finish all stages of a run over it, or one anew."""
    dataset = folder / "large.yaml"
    if not dataset.exists():
        write_dataset(folder, images)
    os.environ["ABS_ARTIFACTS"] = str(folder / "store")
    run = Run.of(str(dataset), "official", [])
    for stage in run.stages if only is None else run.named(only):
        if only is not None:
            run.store.artifact(stage).remove()
        if stage.kind not in REAL:
            kind = type(stage)
            kind.worker = _worker_of(run.named("index")[0])  # type: ignore[method-assign]
        run_stage(stage, run.store, Reporter(), run.settings)


def _worker_of(index: Stage) -> Any:
    def worker(self: Stage, store: Store) -> Worker:
        return ConstantWorker(
            self, store.open(index).table("images", columns=["image_id", "label"])
        )

    return worker


if __name__ == "__main__":
    setattr(os, "fsync", lambda _: None)  # noqa: B010  (the power stays on)
    make(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MB")
