"""scores: score every image against every class, by every chosen method.

Reads the embeddings, the text vectors of `descriptions` and, if all windows are embedded, the draws
of crops-feature. A unit is a block of `layout.images` images.

Writes two tables and an array:

    scores.parquet     a row per image and method: image_id, method (str), label, pred, rank (int64;
                       rank of the label, from 1), correct (bool), top5 (list of labels), margin,
                       confidence (float32; probability of the prediction); for methods whose
                       images stop when they have settled also crops_used and round (float64, for
                       some methods NaN) and bound (float64)
    classes.parquet    label (int64), name (str), present (bool; false if it only competes)
    logits.zarr        (image, method, class) float32

Logits and probabilities are over the classes present in the dataset. Settings: section `scores`,
and `methods.NAME` for a method with settings of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from pipeline.core.errors import MissingInput
from pipeline.core.runtime import Runtime
from pipeline.core.section import NOT_IN_KEY
from pipeline.core.under_way import stretch
from pipeline.datasets.classes import Classes
from pipeline.methods.base import Method, MethodInputs, Prompts, Scorer, Views, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.demands import (
    refuse_expectation,
    refuse_learned_prompts,
    refuse_several_vectors,
)
from pipeline.methods.imported import Imported
from pipeline.methods.per_image import per_image_results
from pipeline.methods.registry import views_read
from pipeline.options import stage_command
from pipeline.stage import Stage, Worker
from pipeline.store.units import ArraySpec, Footprint, Unit, Units, row_units
from pipeline.texts.vectors import text_vectors
from pipeline.views.config import BOX
from pipeline.views.readers import Reader, is_settled, view_reader
from pipeline.views.settled import SettledReader

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions
    from pipeline.models.stopwatch import Stopwatch
    from pipeline.store.artifact import Artifact
    from pipeline.store.store import Store

IMAGES = ["image_id", "label", "sha256"]
"""Columns of the index that are read."""


@dataclass(frozen=True)
class Scores(Stage):
    """Scores of all methods over one set of embeddings."""

    config: ScoresConfig
    methods: Mapping[str, Method]
    index: Stage
    classes: Classes
    views: Mapping[str, Stage]
    """Embeddings that the methods read, by view set."""
    drawn: Mapping[str, Stage]
    """Draws of the view sets of which all possible views are embedded."""
    texts: Mapping[str, Stage]
    image_block: int
    runtime: Annotated[Runtime, NOT_IN_KEY]

    kind: ClassVar[str] = "scores"
    version: ClassVar[int] = 4

    def check(self) -> None:
        """Raise ConfigError if a method cannot score these texts and views."""
        refuse_learned_prompts(self.methods, self.texts, self._competing)
        queries = max([getattr(stage, "queries", 1) for stage in self.views.values()], default=1)
        refuse_several_vectors(self.methods, self.config, queries)
        all_windows = "feature" not in self.views or bool(self.drawn)
        refuse_expectation(self.methods, self.config, all_windows)

    @property
    def _competing(self) -> int:
        """Number of competing classes."""
        present = self.classes.present
        return sum(present) if self.config.classes == "present" else len(present)

    @property
    def notes(self) -> list[str]:
        """Assumptions, and a line if images are to settle and none can."""
        if self.config.settle is None or any(map(is_settled, self.views.values())):
            return super().notes
        names = ", ".join(self.methods)
        return [*super().notes, f"scores.settle has no effect: no view of {names} may stop early"]

    def units(self, store: Store) -> Units:
        """Divide the images into blocks."""
        return row_units(store.rows(self.index), self.image_block)

    def remarks(self, artifact: Artifact) -> list[str]:
        """Return the remark on each method that has one, behind the method's name."""
        return [f"{name}: {remark}" for name, remark in self.remark_of.items()]

    @property
    def remark_of(self) -> dict[str, str]:
        """Remarks on figures of methods: the source of imported results, and feature crops that the
        paper does not define.
        """
        methods = self.methods.items()
        found = {name: m.source for name, m in methods if isinstance(m, Imported)}
        if remark := getattr(self.views.get("feature"), "remark", ""):
            reading = [name for name, m in methods if "feature" in m.views(self.config)]
            found |= dict.fromkeys(reading, remark)
        return found

    def footprint(self, store: Store) -> Footprint:
        """Return bytes of all views' vectors, as stored and in float32, and of logits."""
        rows, present = self.image_block, sum(self.classes.present)
        logits = 4 * rows * len(self.methods) * present
        try:
            vectors = sum(
                math.prod(store.open(stage).array("embeddings").shape[1:])
                for stage in self.views.values()
                if not is_settled(stage)
            )
        except MissingInput:
            return Footprint(None, logits)
        return Footprint(6 * rows * vectors + 2 * logits, logits)

    def worker(self, store: Store) -> Worker:
        """Load the text vectors and open the embeddings."""
        classes = len(self.classes.names)
        texts = {
            name: text_vectors(store.open(stage), classes) for name, stage in self.texts.items()
        }
        counts = views_read(self.methods.values(), self.config)
        views = {
            name: view_reader(store, name, self.views[name], self.drawn, self.config, count)
            for name, count in counts.items()
        }
        read = {name for method in self.methods.values() for name in method.boxes}
        boxes = {name: self._boxes(store, name, counts[name]) for name in read}
        images = store.open(self.index).table("images", columns=IMAGES)
        return self.scorer(images, texts, views, boxes)

    def scorer(
        self,
        images: pd.DataFrame,
        texts: dict[str, Descriptions],
        views: Mapping[str, Reader],
        boxes: Mapping[str, Tensor],
    ) -> ScoresWorker:
        """Return the worker that scores images.

        Args:
            images: Table of the images, with the columns IMAGES.
            texts: Text vectors of all classes by text set.
            views: Readers of the views of images by view set.
            boxes: Boxes of the views by view set, for the methods that read them.
        """
        import torch

        from pipeline.models.device import device_of
        from pipeline.models.stopwatch import Stopwatch

        if self.config.classes == "present":
            present = torch.tensor(self.classes.present)
            texts = {name: vectors.of(present) for name, vectors in texts.items()}
        device = device_of(self.runtime)
        inputs = images, self.classes, texts, views, device, boxes
        watch = Stopwatch(device) if self.runtime.method_seconds else None
        further = self._prompts, watch
        return ScoresWorker(self.config, self.methods, self.image_block, *inputs, *further)

    def _prompts(self, name: str) -> Prompts:
        """Load the text encoder with the prompt of each competing class in a text set."""
        stage: Any = self.texts[name]
        pairs = zip(stage.prompts.texts, self.classes.present, strict=True)
        every = self.config.classes == "all"
        prompts = [own[0] for own, present in pairs if every or present]
        encoder: Prompts = stage.context_encoder(prompts)
        return encoder

    def _boxes(self, store: Store, name: str, count: int) -> Tensor:
        """Read the boxes of the first `count` views of a view set: int64 (images, count, 4)."""
        import torch

        drawn = store.open(next(up for up in self.views[name].upstream if up.kind == "crops"))
        table = drawn.table("crops", columns=["image", "crop", *BOX])
        table = table[table["crop"] < count].sort_values(["image", "crop"])
        return torch.tensor(table[BOX].to_numpy()).reshape(-1, count, 4)


@dataclass
class ScoresWorker(Worker):
    """Worker that scores blocks of images.

    Holds the methods and their scorers, the index, the classes, text vectors by text set, readers
    of embeddings by view set, the device for products, boxes by view set, the function that loads a
    text encoder with prompts, and the stopwatch of methods if they are measured.
    """

    config: ScoresConfig
    methods: Mapping[str, Method]
    image_block: int
    images: Any
    classes: Classes
    texts: dict[str, Descriptions]
    views: Mapping[str, Reader]
    device: torch.device
    boxes: Mapping[str, Tensor] = field(default_factory=dict)
    prompts: Callable[[str], Prompts] | None = None
    watch: Stopwatch | None = None

    def __post_init__(self) -> None:
        """Create the scorer of each method, and list the classes whose texts are equal."""
        from pipeline.kernels.matching import first_equal

        self.present = np.array(self.classes.present)
        self._first = {
            name: first_equal([self.texts[texts] for texts in method.texts])
            for name, method in self.methods.items()
            if method.texts
        }
        self._scorers: dict[str, Scorer] = {}
        for name, method in self.methods.items():
            with self._measured(name):
                self._scorers[name] = self._scorer(method)

    def _measured(self, name: str) -> AbstractContextManager[None]:
        """Measure the block as work of a method, if methods are measured."""
        return self.watch.part(name) if self.watch else nullcontext()

    def by_method(self) -> dict[str, float]:
        """Return the seconds of each method; those of making its scorer are in the first unit."""
        return self.watch.take() if self.watch else {}

    def _scorer(self, method: Method) -> Scorer:
        """Build the scorer of a method, with its texts on the device."""
        names = method.views(self.config)

        def block(rows: slice) -> Views:
            return self._views({name: self.views[name].read(rows) for name in names})

        on_device = {name: self.texts[name].to(self.device) for name in method.texts}
        everything = np.arange(len(self.present))
        competing = everything[self.present] if self.config.classes == "present" else everything
        inputs = MethodInputs(
            on_device,
            self.config,
            images=len(self.images),
            block=block,
            sha256=self.images["sha256"].array,
            image_ids=self.images["image_id"].array,
            classes=competing.tolist(),
            boxes={name: self.boxes[name] for name in method.boxes},
            prompts=self.prompts,
        )
        return method.scorer(inputs)

    def environment(self) -> dict[str, Any]:
        """Return the device that computes the products."""
        from pipeline.models.device import device_name

        return {"device": device_name(self.device)}

    def arrays(self) -> list[ArraySpec]:
        """Declare `logits` (image, method, class)."""
        labels = np.flatnonzero(self.present).tolist()
        per_image = (len(self.methods), len(labels))
        dims = ("image", "method", "class")
        shape, chunks = (len(self.images), *per_image), (self.image_block, *per_image)
        names = {"methods": list(self.methods), "labels": labels}
        return [ArraySpec("logits", dims, shape, chunks, "float32", names)]

    def read(self, unit: Unit) -> dict[str, Any]:
        """Return the unit's views: vectors as stored, and weights or None, by view set."""
        return {name: reader.read(unit.rows) for name, reader in self.views.items()}

    def compute(self, unit: Unit, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return logits and per-image results; with the first unit, also the classes."""
        import pandas as pd

        logits = self.logits(unit.rows, inputs)
        images = self.images.iloc[unit.rows]
        tables = [
            self._results(name, scores, images).assign(**self._settled(name, unit.rows))
            for name, scores in logits.items()
        ]
        outputs = {
            "scores": pd.concat(tables, ignore_index=True),
            "logits": np.stack([scores.numpy() for scores in logits.values()], axis=1),
        }
        return outputs | ({"classes": self._class_table()} if unit.rows.start == 0 else {})

    def logits(
        self, rows: slice, inputs: dict[str, tuple[np.ndarray, np.ndarray | None]]
    ) -> dict[str, Tensor]:
        """Score images by every method: float32 (images, present classes), on the CPU.

        rows: The images in the index; inputs: their views as of `read`.
        """
        import torch

        views, count = self._views(inputs), len(self._scorers)
        scores: list[Tensor] = []
        with torch.inference_mode():
            for number, (name, scorer) in enumerate(self._scorers.items()):
                with stretch(number / count, (number + 1) / count), self._measured(name):
                    scores.append(scorer(rows, views).float().to(self.device))
            by_method = dict(zip(self._scorers, torch.stack(scores).cpu(), strict=True))
        return {name: self._of_present(name, scores) for name, scores in by_method.items()}

    def probabilities(self, method: str, logits: Tensor) -> Tensor:
        """Convert logits of a method to probabilities: float64 (images, present classes)."""
        return self.methods[method].probabilities(logits.double(), self.config)

    def _views(self, stored: dict[str, tuple[np.ndarray, np.ndarray | None]]) -> Views:
        """Move vectors and weights to the device, in float32."""
        import torch

        from pipeline.kernels.transfer import to_device

        def moved(values: np.ndarray) -> Tensor:
            return to_device(torch.from_numpy(values), self.device).float()

        return {
            name: ViewVectors(moved(vectors), None if weights is None else moved(weights))
            for name, (vectors, weights) in stored.items()
        }

    def _results(self, name: str, logits: Tensor, images: Any) -> Any:
        probabilities = self.probabilities(name, logits)
        return per_image_results(
            name, logits.numpy(), probabilities.numpy(), images, np.flatnonzero(self.present)
        )

    def _settled(self, name: str, rows: slice) -> dict[str, Any]:
        """Return the columns of a method whose images stopped when they had settled."""
        reader = self.views.get(self.methods[name].settling(self.config) or "")
        if not isinstance(reader, SettledReader):
            return {}
        looks = reader.looks(rows)
        return {column: looks[column].to_numpy() for column in ("crops_used", "bound", "round")}

    def _class_table(self) -> Any:
        import pandas as pd

        names, present = self.classes.names, self.classes.present
        return pd.DataFrame({"label": range(len(names)), "name": names, "present": present})

    def _of_present(self, method: str, scores: Tensor) -> Tensor:
        """Return the scores of present classes; classes with equal texts have equal scores."""
        if method in self._first:
            scores = scores[:, self._first[method]]
        return scores[:, self.present] if self.config.classes == "all" else scores


command = stage_command(
    "scores", "Score every image against every class with each method.", __doc__
)
