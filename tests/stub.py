"""A stage without an encoder, to measure what is left: in a module that workers can import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.stage import ArraySpec, Stage, Unit, Worker, row_units
from pipeline.store import Store


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
    """Stands for settings that a stub has none of."""

    stage: Stub
    root: str

    def prepared(self) -> tuple[Stage, Store]:
        return self.stage, Store(Path(self.root), "scale")
