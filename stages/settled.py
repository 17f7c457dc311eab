"""settled: encode crops in rounds, and no more of an image that has settled.

Takes the place of the embeddings of a view set if `scores.settle` is set. Crops of an image are
taken in the order in which they tell most of the others (`pipeline.kernels.ordering`). A round goes
on by a few crops of every image that has not settled: after each, a sequential test bounds the
probability that more crops change the decision of a method (`pipeline.kernels.settling`). Reads
what the embeddings read, and what the decision depends on: the text vectors, and the embeddings of
the other views.

A unit is a round times a block of images; after the first round, of several blocks, so that what
few images ask for fills batches. Each writes three tables:

    crops.parquet    a row per embedded crop: image, crop, box_* or window_* (int64), vector (a list
                     of float32 with the values of float16)
    looks.parquet    a row per image that had not settled: image, crops_used, round (int64), bound
                     (float64; probability of another decision at most), settled (bool)
    weights.parquet  a row per crop of an image that stops here: image, crop (int64), weight in the
                     predicted mean of all N crops (float64; sum to 1)

Rows of `crops` and `weights` are by image, then in the order of its crops. A unit of the first
round also writes that order: `order.parquet` has a row per image and crop: image, crop (int64).

Settings: those of the embeddings, and the section `scores`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np

from pipeline.core.code import code_of
from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.runtime import Runtime
from pipeline.core.section import NOT_IN_KEY
from pipeline.datasets.classes import Classes
from pipeline.kernels.rounds import round_ends
from pipeline.methods.base import Method, SumOverViews
from pipeline.methods.config import ScoresConfig
from pipeline.stage import Stage, Worker
from pipeline.store.artifact import Artifact
from pipeline.store.units import WIDER, Footprint, Unit, Units, round_units
from pipeline.texts.vectors import text_vectors
from pipeline.views.deciding import Decider
from pipeline.views.readers import view_reader
from pipeline.views.settled import (
    Look,
    RoundViews,
    SettlingRule,
    earlier_views,
    look_tables,
    saved,
    settling_views,
    stored_order,
    unsettled,
)
from pipeline.views.workers import ViewInputs, ViewWorker

if TYPE_CHECKING:
    from pipeline.store.store import Store


@dataclass(frozen=True)
class SettledEmbeddings(Stage):
    """Embeddings of a view set, of each image as many as it takes to settle."""

    whole: Any
    """Stage that embeds all views of the view set; it is not run."""
    rule: SettlingRule
    config: ScoresConfig
    methods: Mapping[str, Method]
    classes: Classes
    others: Mapping[str, Stage]
    """Embeddings of the other views that the methods read."""
    drawn: Mapping[str, Stage]
    """Draws of those view sets of which all possible views are embedded."""
    texts: Mapping[str, Stage]
    runtime: Annotated[Runtime, NOT_IN_KEY]

    kind: ClassVar[str] = "embeddings"
    version: ClassVar[int] = 4
    counts = "crops at most"

    @property
    def variant(self) -> str:
        """Name of the view set."""
        return str(self.whole.variant)

    @property
    def remark(self) -> str:
        """Remark on figures of these crops; empty where there is none."""
        return str(getattr(self.whole, "remark", ""))

    def identity(self) -> dict[str, Any]:
        """Return the identity of all embeddings, with what decides how many there are."""
        return {**self.whole.identity(), "settled": super().identity()}

    @cached_property
    def upstream(self) -> list[Stage]:
        """The stages this one reads, each once."""
        own = [*self.others.values(), *self.drawn.values(), *self.texts.values()]
        return list(dict.fromkeys([*self.whole.upstream, *own]))

    def check(self) -> None:
        """Raise ConfigError if the embeddings cannot work, or a view has several vectors."""
        self.whole.check()
        if self.whole.queries > 1:
            raise ConfigError(
                f"scores.settle: {self.whole.clip.name} gives a crop {self.whole.queries} vectors, "
                "and what decides reads one; set scores.settle=null, or clip.queries=mean"
            )

    def units(self, store: Store) -> Units:
        """Divide the images into blocks, times rounds."""
        block = self.whole.image_block
        return round_units(store.rows(self.whole.index), block, round_ends(self.rule.count))

    def footprint(self, store: Store) -> Footprint:
        """Return bytes of crops and vectors of the largest unit, if no image settles."""
        clip, block = self.whole.clip, self.whole.image_block
        ends = [0, *round_ends(self.rule.count)]
        steps = np.diff(ends) * [1, *[WIDER] * (len(ends) - 2)]
        crops = int(max(steps)) * block
        return Footprint(crops * (3 * clip.image_size**2 + 10 * clip.dim), 4 * crops * clip.dim)

    def remarks(self, artifact: Artifact) -> list[str]:
        """Say how many crops were embedded."""
        return [saved([artifact.table("looks", finished=False)], self.rule.count)]

    def worker(self, store: Store) -> Worker:
        """Load CLIP, and what decides."""
        encoder = self.whole.worker(store)
        encoder.expect_rounds()
        units, code = self.units(store), code_of(self.whole)
        return SettledWorker(
            encoder, self._decider(store), store.artifact(self), units, self.whole.columns, code
        )

    def _decider(self, store: Store) -> Decider:
        import torch

        from pipeline.models.device import device_of

        present = torch.tensor(self.classes.present)
        texts = {
            name: text_vectors(store.open(stage), len(present))
            for name, stage in self.texts.items()
        }
        if self.config.classes == "present":
            texts = {name: vectors.of(present) for name, vectors in texts.items()}
        deciding = {n: m for n, m in self.methods.items() if isinstance(m, SumOverViews)}
        return Decider(
            self.rule,
            self.variant,
            deciding,
            self.config,
            texts,
            self._predicted(texts),
            {
                name: view_reader(store, name, stage, self.drawn, self.config, self.config.n)
                for name, stage in self.others.items()
            },
            device_of(self.runtime),
        )

    def _predicted(self, texts: Mapping[str, Any]) -> list[int]:
        """Return the competing classes that can be predicted, one of each with equal texts."""
        from pipeline.kernels.matching import first_equal

        first = first_equal(list(texts.values())).tolist()
        if self.config.classes == "present":
            return sorted(set(first))
        return sorted({first[i] for i, present in enumerate(self.classes.present) if present})


def settled(
    config: ScoresConfig,
    methods: Mapping[str, Method],
    embeddings: Mapping[str, Stage],
    drawn: Mapping[str, Stage],
    texts: Mapping[str, Stage],
    classes: Classes,
    runtime: Runtime,
) -> dict[str, Stage]:
    """Return the embeddings, where views may stop early in place of those that do not, last."""
    found, rule = dict(embeddings), SettlingRule.of(config)
    if rule is None:
        return found
    for view, deciding in settling_views(methods, config).items():
        if view in drawn:
            continue
        read = {name for method in deciding.values() for name in method.views(config)} - {view}
        of_texts = {name for method in deciding.values() for name in method.texts}
        found[view] = SettledEmbeddings(
            found.pop(view),
            rule,
            config.naming(deciding),
            deciding,
            classes,
            {name: embeddings[name] for name in sorted(read)},
            {name: stage for name, stage in drawn.items() if name in read},
            {name: texts[name] for name in sorted(of_texts)},
            runtime,
        )
    return found


class Inputs(NamedTuple):
    """Images of a unit that have not settled, and their views."""

    rows: list[int]
    earlier: list[RoundViews]
    """Views of earlier rounds whose scores are not known here."""
    views: ViewInputs
    """Views of this round."""
    order: np.ndarray
    """Numbers of all their views in the order in which they are taken, int64 (images, N)."""
    places: np.ndarray
    """Places of all their views in that order, embedded or not, int64 (images, N, 4)."""


@dataclass
class SettledWorker(Worker):
    """Worker that embeds a round's crops and looks whether images have settled.

    Holds the worker that embeds, what decides, the artifact of earlier rounds, all units, the
    columns of a view's place, and the digest of the code that embeds.
    """

    encoder: Any
    decider: Decider
    artifact: Artifact
    units: Units
    columns: list[str]
    code: str

    def environment(self) -> dict[str, Any]:
        """Return device and batch size of CLIP, and the code that embeds."""
        return {**self.encoder.environment(), "encoder": self.code}

    def disable_reuse(self) -> None:
        """Embed every view, also those that are stored under other settings."""
        self.encoder.disable_reuse()

    def read(self, unit: Unit) -> Inputs | None:
        """Return the images that have not settled, with their views; None if all have."""
        rows = unsettled(self.artifact, self.units, unit)
        if not rows:
            return None
        assert isinstance(self.encoder, ViewWorker)
        assert unit.crops is not None
        places = self.encoder.drawn(rows, self.decider.rule.count)
        first = unit.round == 0
        order = (
            self.decider.order(places) if first else stored_order(self.artifact, self.units, rows)
        )
        places = np.take_along_axis(places, order[:, :, None], axis=1)
        views = self.encoder.inputs_at(rows, places[:, unit.crops])
        lacking = self.decider.lacking(rows, unit.crops.start)
        dim = views.views.vectors.shape[1]
        earlier = earlier_views(self.artifact, self.units, unit, lacking, dim) if lacking else []
        return Inputs(rows, earlier, views, order, places)

    def compute(self, unit: Unit, inputs: Inputs | None) -> dict[str, Any]:
        """Return the tables `crops`, `looks` and `weights`, in the first round also `order`."""
        assert unit.crops is not None
        rule = self.decider.rule
        if inputs is None:
            empty = np.empty((0, 1, self.encoder.array.shape[-1]), np.float16)
            none = np.empty((0, len(self.columns)), np.int64)
            nothing = Look(np.empty(0), np.empty((0, unit.crops.stop)))
            order = np.empty((0, rule.count), np.int64)
            return look_tables(unit, [], order, none, self.columns, empty, nothing, rule)
        found = self.encoder.encode(inputs.views)
        vectors, rows = found.all(), inputs.rows
        if not np.isfinite(vectors).all():
            raise AbsError(f"unit {unit.name} has NaN or infinite vectors; check the weights")
        self.decider.restore(rows, unit.crops.start, inputs.earlier)
        self.decider.take(RoundViews(rows, unit.crops.start, vectors))
        look = self.decider.look(rows, inputs.places)
        return look_tables(
            unit, rows, inputs.order, found.places, self.columns, vectors, look, rule
        )
