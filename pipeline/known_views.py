"""Views that other settings have embedded already: what is equal is embedded once.

Crops of all settings come from one stream, so that another alpha or k draws many of the same. An
artifact of embeddings that differs from the one at hand in its view set alone is looked through,
unit by unit, for views at the same place of the same image. Vectors do not depend on what they are
embedded together with, so that it makes no difference to what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import AbsError
from pipeline.identity import digest
from pipeline.store import Artifact

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.stage import Stage, Unit
    from pipeline.store import Store
    from pipeline.views import ViewSet
    from stages.embeddings import ViewEmbeddings


@dataclass
class Asked:
    """The views of a unit, each distinct one of an image once."""

    shape: tuple[int, int]
    """Images, and views of each."""
    distinct: np.ndarray
    """int64 (m, 5): image of the block, then place; in order."""
    back: np.ndarray
    """Which of these each view is: int64 (images * views,)."""
    vectors: np.ndarray
    """float16 (m, dim), NaN where they are still to be made."""

    @classmethod
    def of(cls, places: np.ndarray, dim: int) -> Asked:
        """Of places (images, views, 4)."""
        images, views, _ = places.shape
        rows = np.repeat(np.arange(images), views)
        table = np.column_stack([rows, places.reshape(-1, 4)])
        distinct, back = np.unique(table, axis=0, return_inverse=True)
        vectors = np.full((len(distinct), dim), np.nan, np.float16)
        return cls((images, views), distinct, back.reshape(-1), vectors)

    @property
    def missing(self) -> np.ndarray:
        """Which are still to be made: bool (m,)."""
        return np.asarray(np.isnan(self.vectors[:, 0]))

    def places(self, image: int) -> np.ndarray:
        """The places of an image that are still to be made: (n, 4)."""
        return self.distinct[self.missing & (self.distinct[:, 0] == image), 1:]

    def fill(self, vectors: np.ndarray) -> None:
        """Vectors of all that is missing, in order: (n, dim)."""
        self.vectors[self.missing] = vectors

    def all(self) -> np.ndarray:
        """float16 (images, views, dim)"""
        return np.asarray(self.vectors[self.back].reshape(*self.shape, -1))


@dataclass(frozen=True)
class Source:
    """An artifact that may hold some of the vectors, and the table of its views."""

    vectors: Artifact
    views: Artifact

    @property
    def finished(self) -> bool:
        """Whether both can be read."""
        try:
            return bool(self.vectors.manifest and self.views.manifest)
        except (AbsError, OSError):
            return False

    def fill(self, asked: Asked, unit: Unit, columns: Sequence[str], maker: dict[str, Any]) -> None:
        """Take what is there of a unit, if the same maker made it; nothing of what is damaged."""
        try:
            if self.has(unit.name, maker):
                self._fill(asked, unit, columns)
        except (AbsError, OSError):
            return

    def has(self, unit: str, maker: dict[str, Any]) -> bool:
        """Whether a unit is finished and made by the same code, device and batch size."""
        if unit not in self.vectors.manifest["units"]:
            return False
        receipt = self.vectors.ledger.read(unit)
        return receipt is not None and maker.items() <= receipt.maker.items()

    def _fill(self, asked: Asked, unit: Unit, columns: Sequence[str]) -> None:
        import pandas as pd

        table = self.views.table("crops", unit, columns=["image", "crop", *columns])
        table["image"] -= unit.rows.start
        table = table.drop_duplicates(["image", *columns])
        theirs = pd.MultiIndex.from_frame(table[["image", *columns]])
        missing = np.flatnonzero(asked.missing)
        found = theirs.get_indexer(pd.MultiIndex.from_arrays([*asked.distinct[missing].T]))
        there, rows = missing[found >= 0], table.iloc[found[found >= 0]]
        if len(there):
            crops = unit.crops or slice(0, int(table["crop"].max()) + 1)
            stored = self.vectors.array("embeddings")[unit.rows, crops]
            asked.vectors[there] = stored[rows["image"], rows["crop"] - crops.start]


@dataclass(frozen=True)
class KnownViews:
    """Where to look for views of one stage."""

    sources: Sequence[Source]
    columns: Sequence[str]
    """Of a view's place, in the tables of views."""
    maker: dict[str, Any]
    """What vectors may depend on by float rounding, which must be the same."""

    def ask(self, unit: Unit, views: pd.DataFrame, dim: int) -> Asked:
        """The views of a unit, with the vectors that are known."""
        images = unit.rows.stop - unit.rows.start
        asked = Asked.of(views[list(self.columns)].to_numpy().reshape(images, -1, 4), dim)
        for source in self.sources:
            if not asked.missing.any():
                break
            source.fill(asked, unit, self.columns, self.maker)
        return asked


def family(stage: Stage) -> dict[str, Any]:
    """What decides the vectors of a stage of embeddings, but for the places of its views."""
    return _without_views(stage.identity())


def sources(store: Store, stage: Stage, views: ViewSet) -> Iterator[Source]:
    """The finished artifacts of the same family, with views of the same kind."""
    wanted, seed = family(stage), _seed(views.identity())
    for artifact in store.artifacts(stage.name):
        identity = artifact.identity
        if artifact.path.name == stage.key or identity is None:
            continue
        if _without_views(identity) == wanted:
            places = store.folder / views.name / identity["upstream"]["views"]
            source = Source(artifact, Artifact(places, views.name))
            if source.finished and _seed(source.views.identity) == seed:
                yield source


def still_to_embed(store: Store, stages: Iterable[ViewEmbeddings]) -> int:
    """Distinct views that some of `stages` have and no finished unit of their families.

    MissingInput where the views of one are not there yet.
    """
    groups: dict[str, list[ViewEmbeddings]] = {}
    for stage in stages:
        alike = {"family": family(stage), "seed": _seed(stage.views.identity())}
        groups.setdefault(digest(alike), []).append(stage)
    return sum(_lacking(store, group) for group in groups.values())


def _lacking(store: Store, stages: list[ViewEmbeddings]) -> int:
    import pandas as pd

    first = stages[0]
    found = [_split(store, stage) for stage in stages]
    there = [table for table, _ in found] + [
        _table(source.views, first.columns, first.views.shape(store)[1])
        for source in sources(store, first, first.views)
    ]
    both = pd.concat([pd.concat(there).assign(new=False), *(todo for _, todo in found)])
    return int(both.drop_duplicates(["part", "image", *first.columns])["new"].sum())


def _split(store: Store, stage: ViewEmbeddings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The views of a stage's finished units, and those of the others."""
    import pandas as pd

    units, block = stage.units(store), stage.views.shape(store)[1]
    finished = store.artifact(stage).finished(units)
    done = [
        (unit.rows.start // stage.image_block, unit.crops.start // block if unit.crops else 0)
        for unit in units
        if unit.name in finished
    ]
    table = _table(store.open(stage.views), stage.columns, block)
    places = pd.MultiIndex.from_arrays([table["image"] // stage.image_block, table["part"]])
    there = places.isin(done)
    return table[there], table[~there].assign(new=True)


def _table(views: Artifact, columns: Sequence[str], block: int) -> pd.DataFrame:
    """Image, place and block of crops of all views: equal views are found within a block."""
    table = views.table("crops", columns=["image", "crop", *columns])
    return table.assign(part=table.pop("crop") // block)


def _without_views(identity: dict[str, Any]) -> dict[str, Any]:
    upstream = {name: key for name, key in identity["upstream"].items() if name != "views"}
    return {**identity, "upstream": upstream}


def _seed(identity: dict[str, Any] | None) -> Any:
    """Of the stream that views are drawn from; those of two have nothing in common."""
    return ((identity or {}).get("config", {}).get("config") or {}).get("seed")
