"""A stage without an encoder, to measure what is left: in a module that workers can import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from pipeline.models.clip import Clip
from pipeline.stage import ArraySpec, Stage, Unit, Worker, row_units
from pipeline.store import Store
from stages.attention import AttentionWorker
from stages.embeddings import BoxWorker, ImageWorker, WindowWorker


@dataclass(frozen=True)
class Stub(Stage):
    """A stage like `embeddings-image`, but for its encoder."""

    rows: int
    block: int
    dim: int

    kind: ClassVar[str] = "stub"
    version: ClassVar[int] = 1

    def units(self, store: Store) -> list[Unit]:
        return row_units(self.rows, self.block)

    def worker(self, store: Store) -> Worker:
        return StubWorker(self)


@dataclass
class StubWorker(Worker):
    """Vectors of a thousand images, over and over."""

    stage: Stub

    def __post_init__(self) -> None:
        known = np.random.default_rng(0).standard_normal((1000, 1, self.stage.dim))
        self._known = known.astype(np.float16)

    def arrays(self) -> list[ArraySpec]:
        shape = self.stage.rows, 1, self.stage.dim
        chunks = self.stage.block, 1, self.stage.dim
        return [ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")]

    def compute(self, unit: Unit, inputs: Any) -> dict[str, Any]:
        rows = np.arange(unit.rows.start, unit.rows.stop) % 1000
        return {"embeddings": self._known[rows]}


@dataclass(frozen=True)
class StubRecipe:
    """Carries a stub, beside settings that it has no use for: as many bytes as of any stage."""

    stage: Stub
    root: str
    settings: str
    run: str
    threads: int = 1

    def prepared(self) -> tuple[Stage, Store]:
        return self.stage, Store(Path(self.root), "scale")


def drawn(self: Any, unit: Unit, inputs: Any) -> dict[str, Any]:
    """What a worker would write of a unit, but for its values."""
    (spec,) = self.arrays()
    rows = unit.rows.stop - unit.rows.start
    views = unit.crops.stop - unit.crops.start if unit.crops else spec.shape[1]
    values = np.random.default_rng(unit.rows.start).random((rows, views, *spec.shape[2:])) + 0.1
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    return {spec.name: values.astype(spec.dtype)}


def drawn_texts(self: Any, texts: list[str]) -> torch.Tensor:
    """Unit vectors of texts, but for their values."""
    values = np.random.default_rng(len(texts)).standard_normal(
        (len(texts), self._visual.output_dim)
    )
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return torch.from_numpy(values.astype(np.float32))


@contextmanager
def without_encoders() -> Iterator[None]:
    """In this process, images are not read, and what models would make of them is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (AttentionWorker, ImageWorker, BoxWorker, WindowWorker):
            patch.setattr(kind, "read", lambda self, unit: None)
            patch.setattr(kind, "compute", drawn)
        patch.setattr(Clip, "encode_texts", drawn_texts)
        yield
