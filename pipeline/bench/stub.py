"""A stage without an encoder, which measures engine and store alone; workers import this module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch

from pipeline.models.clip.model import ClipModel
from pipeline.stage import Stage, Worker
from pipeline.store.store import Store
from pipeline.store.units import ArraySpec, Unit, Units, row_units
from stages.attention import AttentionWorker
from stages.embeddings import BoxWorker, ImageWorker, WindowWorker


@dataclass(frozen=True)
class Stub(Stage):
    """A stage like `embeddings-image` without its encoder."""

    rows: int
    block: int
    dim: int

    kind: ClassVar[str] = "stub"
    version: ClassVar[int] = 1

    def units(self, store: Store) -> Units:
        """Divide the rows into blocks."""
        return row_units(self.rows, self.block)

    def worker(self, store: Store) -> Worker:
        """Return the worker."""
        return StubWorker(self)


@dataclass
class StubWorker(Worker):
    """A worker that writes the same thousand random vectors repeatedly."""

    stage: Stub

    def __post_init__(self) -> None:
        vectors = np.random.default_rng(0).standard_normal((1000, 1, self.stage.dim))
        self._vectors = vectors.astype(np.float16)

    def arrays(self) -> list[ArraySpec]:
        """Declare one view for each row, like embeddings of whole images."""
        shape = self.stage.rows, 1, self.stage.dim
        chunks = self.stage.block, 1, self.stage.dim
        return [ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")]

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        """Return the vectors of a unit."""
        rows = np.arange(unit.rows.start, unit.rows.stop) % 1000
        return {"embeddings": self._vectors[rows]}


def rebuild_stubs(stages: list[Stage], settings: str) -> tuple[Store, list[Stage]]:
    """Return store and stages on a worker; of the settings only the store's folder is used."""
    return Store(Path(json.loads(settings)["paths"]["artifacts"]), "scale"), stages


def random_values(self: Any, unit: Unit, inputs: Any) -> dict[str, Any]:
    """Draw random unit vectors in the shape of a worker's output; replaces `Worker.compute`."""
    (spec,) = self.arrays()
    rows = unit.rows.stop - unit.rows.start
    views = unit.crops.stop - unit.crops.start if unit.crops else spec.shape[1]
    values = np.random.default_rng(unit.rows.start).random((rows, views, *spec.shape[2:])) + 0.1
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    return {spec.name: values.astype(spec.dtype)}


def random_texts(self: Any, texts: list[str]) -> torch.Tensor:
    """Draw random unit vectors (texts, dim); replaces `ClipModel.encode_texts`."""
    values = np.random.default_rng(len(texts)).standard_normal(
        (len(texts), self._model.visual.output_dim)
    )
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return torch.from_numpy(values.astype(np.float32))


@contextmanager
def without_encoders() -> Iterator[None]:
    """Replace the encoders in this process by random vectors; images are not read."""
    with ExitStack() as patches:
        for worker in (AttentionWorker, ImageWorker, BoxWorker, WindowWorker):
            patches.enter_context(patch.object(worker, "read", lambda self, unit: None))
            patches.enter_context(patch.object(worker, "compute", random_values))
        patches.enter_context(patch.object(ClipModel, "encode_texts", random_texts))
        yield
