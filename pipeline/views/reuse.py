"""Reuse embeddings of identical views that are stored under other settings.

Crops of all settings come from one stream, so another alpha or k draws many of the same views. An
embeddings artifact that differs from the requested one in its views alone, or in how many of an
image it has, is searched, unit by unit, for views at the same place of the same image. Only files
that match their receipt are reused; reading never changes the other artifact.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.kernels.rounds import round_ends
from pipeline.store.artifact import Artifact
from pipeline.store.units import Units, round_units
from pipeline.views.requested import RequestedViews

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stage import Stage
    from pipeline.store.ledger import Receipt
    from pipeline.store.store import Store
    from pipeline.store.units import Unit
    from pipeline.views.sets import ViewSet

MEMORY_BYTES = 2**27
"""Bytes of tables of views that are remembered from round to round."""


@dataclass(frozen=True)
class StoredViews:
    """An embeddings artifact, and the artifact with the table of its views."""

    vectors: Artifact
    """Artifact of embeddings."""
    views: Artifact
    """Artifact with the table of their views."""

    encoder: ClassVar[str] = "code"
    """Entry of a receipt's `maker`: digest of the code that encoded the views."""

    def units(self, grid: Units, rows: Sequence[int], crops: slice | None) -> list[Unit]:
        """Return the units that may hold views of some images and crops.

        Args:
            grid: Units of the requesting view set, which has blocks of the same size.
            rows: Images, ascending.
            crops: Numbers of crops; None for all views.
        """
        return grid.overlapping(rows, crops)

    def receipt(self, unit: str, code: str, environment: Mapping[str, Any]) -> Receipt | None:
        """Return the receipt of a unit that is finished and was made in this way, or None.

        Args:
            unit: Name of the unit.
            code: Digest of the code that encoded its views.
            environment: Entries of the receipt's `maker` that must match, such as the device.
        """
        receipt, maker = self.vectors.ledger.read(unit), {self.encoder: code, **environment}
        return receipt if receipt and maker.items() <= receipt.maker.items() else None

    def places(self, unit: Unit, columns: Sequence[str]) -> np.ndarray | None:
        """Read image and place of each view of a unit, as the function `places` does."""
        return places(self.views, unit, columns)

    def read(self, unit: Unit, receipt: Receipt, views: int, dim: int) -> np.ndarray | None:
        """Read the embeddings of a unit's views, float16 (views, dim); None if it is damaged.

        Args:
            unit: Unit to read.
            receipt: Its receipt.
            views: Number of its views.
            dim: Length of an embedding.
        """
        chunk = self.vectors.ledger.content(receipt, "embeddings.zarr")
        if not chunk:
            return None
        images = unit.rows.stop - unit.rows.start
        stored = np.frombuffer(chunk, np.float16).reshape(-1, views // images, dim)
        return stored[:images].reshape(-1, dim)


@dataclass(frozen=True)
class SettledViews(StoredViews):
    """An embeddings artifact whose images stopped when they had settled; it holds its views."""

    encoder: ClassVar[str] = "encoder"

    def units(self, grid: Units, rows: Sequence[int], crops: slice | None) -> list[Unit]:
        """Return the units of the rounds that may hold views of some images and crops."""
        identity = self.vectors.identity or {}
        count, block = identity["settled"]["config"]["rule"]["count"], identity["config"]
        own = round_units(rows[-1] + 1, block["image_block"], round_ends(count))
        return own.overlapping(rows, None)  # which crops a round takes differs between images

    def places(self, unit: Unit, columns: Sequence[str]) -> np.ndarray | None:
        """Read image and place of each view of a unit, as the function `places` does."""
        return places(self.vectors, unit, columns)

    def read(self, unit: Unit, receipt: Receipt, views: int, dim: int) -> np.ndarray | None:
        """Read the embeddings of a unit's views, as `StoredViews.read` does."""
        table = stored_table(self.vectors, unit, "crops", ["vector"])
        return None if table is None else _vectors(table, dim)


@dataclass
class Memory:
    """Arrays that were read, as far as there is room: those that were read first."""

    room: int
    """Bytes that are left."""
    _held: dict[Hashable, np.ndarray] = field(default_factory=dict)

    def of(self, key: Hashable, read: Callable[[], np.ndarray | None]) -> np.ndarray | None:
        """Return what `read` returns for a key; nothing is remembered of None."""
        if (found := self._held.get(key)) is None:
            found = read()
            if found is not None and found.nbytes <= self.room:
                self._held[key] = found
                self.room -= found.nbytes
        return found


@dataclass(frozen=True)
class ReusableViews:
    """Views of an embeddings stage, and the artifacts whose embeddings it may reuse."""

    views: Artifact
    """Artifact with the table of views."""
    grid: Units
    """Units of the table of views."""
    columns: Sequence[str]
    """Columns of a view's place in tables of views."""
    sources: Sequence[StoredViews]
    """Artifacts to search for identical views."""
    code: str
    """Code digest of the stage; embeddings made by other code are not reused."""
    memory: Memory = field(default_factory=partial(Memory, 0), compare=False)
    """Tables of views, of this artifact and the others, that are read more than once."""

    def remembering(self) -> ReusableViews:
        """Return the same views, for images that are asked for round after round."""
        return replace(self, memory=Memory(MEMORY_BYTES))

    def without_reuse(self) -> ReusableViews:
        """Return the same views without artifacts to search."""
        return replace(self, sources=())

    def request(
        self, rows: Sequence[int], crops: slice | None, dim: int, environment: Mapping[str, Any]
    ) -> RequestedViews:
        """Return views of some images, with the embeddings that are stored elsewhere filled in.

        Args:
            rows: Images, ascending.
            crops: Numbers of their crops; None for all views.
            dim: Length of an embedding.
            environment: Device, batch size and the like, which must match: vectors may depend on
                them by float rounding.
        """
        asked = _of_images(self._places(rows, crops), rows)[0]
        requested = RequestedViews.of(asked, len(rows), dim)
        self._fill(requested, rows, crops, environment)
        return requested

    def request_at(
        self, rows: Sequence[int], places: np.ndarray, dim: int, environment: Mapping[str, Any]
    ) -> RequestedViews:
        """Return views of some images at given places, int64 (images, views, 4); as `request`."""
        requested = RequestedViews.at(places, dim)
        self._fill(requested, rows, None, environment)
        return requested

    def _fill(
        self,
        requested: RequestedViews,
        rows: Sequence[int],
        crops: slice | None,
        environment: Mapping[str, Any],
    ) -> None:
        """Take the embeddings of equal views from other artifacts, as long as any is missing."""
        for source in self.sources:
            for unit in source.units(self.grid, rows, crops):
                if not requested.missing.any():
                    return
                if receipt := source.receipt(unit.name, self.code, environment):
                    self._take(requested, rows, source, unit, receipt)

    def _take(
        self,
        requested: RequestedViews,
        rows: Sequence[int],
        source: StoredViews,
        unit: Unit,
        receipt: Receipt,
    ) -> None:
        """Take what a unit has of the views that are missing; most often that is nothing."""
        key = source.vectors.path, unit.name, receipt.digest
        stored = self.memory.of(key, partial(source.places, unit, self.columns))
        if stored is None:
            return
        places, own = _of_images(stored, rows)
        found = requested.find(places)
        if (found < 0).all():
            return
        vectors = source.read(unit, receipt, len(stored), requested.vectors.shape[1])
        if vectors is not None:
            requested.take(found, vectors[own])

    def drawn(self, rows: Sequence[int], count: int) -> np.ndarray:
        """Return the places of the first views of some images, int64 (images, count, 4)."""
        table = _of_images(self._places(rows, slice(0, count)), rows)[0]
        return np.asarray(table[:, 1:].reshape(len(rows), count, -1))

    def _places(self, rows: Sequence[int], crops: slice | None) -> np.ndarray:
        """Read image and place of the views, by image, then view: int64 (n, 5)."""
        order = ["image", *(() if crops is None else ("crop",))]
        columns = [*order, *self.columns]
        units = self.grid.overlapping(rows, crops)
        parts = [self._table(unit, columns) for unit in units]
        table = np.concatenate(parts)
        if crops is not None:
            table = table[(table[:, 1] >= crops.start) & (table[:, 1] < crops.stop)]
            if len(parts) > 1:
                table = table[np.lexsort((table[:, 1], table[:, 0]))]
        return np.delete(table, slice(1, len(order)), axis=1)

    def _table(self, unit: Unit, columns: list[str]) -> np.ndarray:
        """Read columns of a unit's table of views, int64 (n, columns)."""

        def read() -> np.ndarray:
            return self.views.table("crops", unit, columns=columns).to_numpy().astype(np.int64)

        found = self.memory.of((unit.name, *columns), read)
        assert found is not None
        return found


def places(views: Artifact, unit: Unit, columns: Sequence[str]) -> np.ndarray | None:
    """Read image and place of each view of a unit, by image, then view.

    Returns:
        int64 (n, 1 + columns), or None if the unit is unfinished or damaged.
    """
    table = stored_table(views, unit, "crops", ["image", *columns])
    return None if table is None else _integers(table)


def stored_table(
    artifact: Artifact, unit: Unit, name: str, columns: Sequence[str]
) -> pa.Table | None:
    """Read what a unit wrote to a table, whether or not the artifact is finished.

    Nothing is marked as damaged.

    Returns:
        The table, or None if the unit is unfinished or damaged.
    """
    import pyarrow.parquet as pq

    receipt = artifact.ledger.read(unit.name)
    content = receipt and artifact.ledger.content(receipt, f"{name}.parquet")
    return pq.read_table(io.BytesIO(content), columns=list(columns)) if content else None


def vector_table(
    artifact: Artifact, unit: Unit, columns: Sequence[str], dim: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Read the views of a unit that holds a vector per row; None as in `stored_table`.

    Returns:
        The columns, int64 (n, columns).
        The vectors, float16 (n, dim).
    """
    table = stored_table(artifact, unit, "crops", [*columns, "vector"])
    if table is None:
        return None
    return _integers(table.drop_columns("vector")), _vectors(table, dim)


def _vectors(table: pa.Table, dim: int) -> np.ndarray:
    """Return the column `vector` of a table, float16 (n, dim)."""
    values = table["vector"].combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False) if len(values) else np.empty(0)
    return flat.astype(np.float16).reshape(-1, dim)


def sources(store: Store, stage: Stage, views: ViewSet) -> Iterator[StoredViews]:
    """List artifacts of the same family whose views are of the same kind, stream and blocks."""
    own_family, own_values = family(stage.identity()), views.common_values(views.identity())
    for artifact in store.artifacts(stage.name):
        identity = artifact.identity
        if identity is not None and family(identity) == own_family:
            folder = store.folder / views.name / identity["upstream"]["views"]
            kind = SettledViews if "settled" in identity else StoredViews
            source = kind(artifact, Artifact(folder, views.name))
            if views.common_values(source.views.identity or {}) == own_values:
                yield source


def family(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of an embeddings artifact without the key of its views.

    What decided how many views of an image are embedded is left out, too. Artifacts of one family
    embed equal views as equal vectors.
    """
    upstream = {n: key for n, key in identity.get("upstream", {}).items() if n != "views"}
    return {n: part for n, part in identity.items() if n != "settled"} | {"upstream": upstream}


def _integers(table: pa.Table) -> np.ndarray:
    """Return the columns of a table of whole numbers, int64 (n, columns)."""
    return np.column_stack([column.to_numpy() for column in table.columns]).astype(np.int64)


def _of_images(table: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keep the views of some images, and count images by their place among them.

    Args:
        table: Image and place of each view, int64 (n, 5).
        rows: Images, ascending.

    Returns:
        Place among `rows` and place in the image of each view that is kept, int64 (m, 5).
        Which views are kept, bool (n,).
    """
    images = np.asarray(rows)
    found = np.searchsorted(images, table[:, 0]).clip(max=len(images) - 1)
    own = images[found] == table[:, 0]
    return np.column_stack([found[own], table[own, 1:]]), own
