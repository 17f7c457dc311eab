"""Views of images that stop when they have settled: the rule, their tables and their reader.

Views of an image are taken in an order that follows from their places. Such an artifact holds, per
unit of a round, a row for each view with its vector (`crops`), a row for each image with what a
look found (`looks`), and a row for each view of an image that stops here, with what it counts
(`weights`); units of the first round hold the order (`order`). An image whose look found that it
has settled is in no later round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.core.errors import AbsError
from pipeline.core.section import Section
from pipeline.kernels.rounds import FIRST, GROWTH, NUGGET, REACH
from pipeline.methods.base import Method, SumOverViews
from pipeline.methods.config import ScoresConfig
from pipeline.store.units import Unit, Units
from pipeline.views.reuse import stored_table, vector_table

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.store.artifact import Artifact


class SettlingRule(Section):
    """Rule by which an image has settled; all of it is in the key."""

    p: float
    """Probability, per image, with which the decision may differ."""
    at: str
    """Decision that is meant, as in `ScoresConfig.settle_at`."""
    count: int
    """Draws of an image that never settles (N)."""
    first: int = FIRST
    growth: int = GROWTH
    reach: float = REACH
    nugget: float = NUGGET

    @classmethod
    def of(cls, config: ScoresConfig) -> SettlingRule | None:
        """Return the rule of the section `scores`; None if images are not to settle."""
        if config.settle is None:
            return None
        return cls(p=config.settle, at=config.settle_at, count=config.n)


class RoundViews(NamedTuple):
    """Views of a round, of all images of a unit that had not settled."""

    rows: Sequence[int]
    """Images, ascending."""
    start: int
    """Place of the first view in the order of its image."""
    vectors: np.ndarray
    """float16 (images, views, dim)."""


class Look(NamedTuple):
    """Finding of a look at some images, after n views of each."""

    bounds: np.ndarray
    """Bound of the probability of another decision, float64 (images,)."""
    weights: np.ndarray
    """Weight of each view in the predicted mean of all, float64 (images, n)."""


def settling_views(
    methods: Mapping[str, Method], config: ScoresConfig
) -> dict[str, dict[str, SumOverViews]]:
    """Return the views that may stop early, and the methods that decide when.

    A view may stop if every method that reads it says so.
    """
    found: dict[str, dict[str, SumOverViews]] = {}
    for view in {name for method in methods.values() for name in method.views(config)}:
        readers = {n: method for n, method in methods.items() if view in method.views(config)}
        deciding = {
            name: method
            for name, method in readers.items()
            if isinstance(method, SumOverViews) and method.settling(config) == view
        }
        if deciding.keys() == readers.keys():
            found[view] = deciding
    return dict(sorted(found.items()))


def unsettled(artifact: Artifact, units: Units, unit: Unit) -> list[int]:
    """Return the images of a unit that have not settled in the round before; ascending."""
    rows = range(unit.rows.start, unit.rows.stop)
    if unit.round == 0:
        return list(rows)
    before = (each for each in units.overlapping(rows, None) if each.round == unit.round - 1)
    found: list[int] = []
    for part in before:
        table = stored_table(artifact, part, "looks", ["image", "settled"])
        if table is None:
            raise _lost(artifact, part, "looks")
        images, settled = (table[name].to_numpy() for name in ("image", "settled"))
        found += images[~settled].tolist()
    return [row for row in sorted(found) if row in rows]


def stored_order(artifact: Artifact, units: Units, rows: Sequence[int]) -> np.ndarray:
    """Read the order of the views of some images, which the first round has stored.

    Returns:
        Numbers of the views, int64 (images, N).
    """
    found = []
    for part in (each for each in units.overlapping(rows, None) if each.round == 0):
        table = stored_table(artifact, part, "order", ["image", "crop"])
        if table is None:
            raise _lost(artifact, part, "order")
        images, crops = (table[name].to_numpy() for name in ("image", "crop"))
        crops = crops.reshape(part.rows.stop - part.rows.start, -1)
        found.append(crops[np.isin(images[:: crops.shape[1]], rows)])
    return np.concatenate(found)


def earlier_views(
    artifact: Artifact, units: Units, unit: Unit, rows: Sequence[int], dim: int
) -> list[RoundViews]:
    """Read the units of all rounds before a unit's that have any of some images; in their order."""
    found = []
    before = (each for each in units.overlapping(rows, None) if each.round < unit.round)
    for part in before:
        table = vector_table(artifact, part, ["image"], dim)
        if table is None:
            raise _lost(artifact, part, "crops")
        assert part.crops is not None
        views = part.crops.stop - part.crops.start
        images, vectors = table[0][::views, 0].tolist(), table[1].reshape(-1, views, dim)
        found.append(RoundViews(images, part.crops.start, vectors))
    return found


def _lost(artifact: Artifact, unit: Unit, table: str) -> AbsError:
    """Return the error for a table that a unit lacks; Damaged, and marked, if it has changed."""
    if artifact.ledger.read(unit.name):
        artifact.damaged(f"{table}.parquet/{unit.name}.parquet", unit.name)
    return AbsError(
        f"{artifact.stage}: unit {unit.name} of an earlier round is gone or damaged; run the same "
        "command again"
    )


Placed = tuple[np.ndarray, np.ndarray]
"""Image, place in its order and number of some views, int64 (n, 3), and a value of each, (n, ...).
"""


@dataclass(frozen=True)
class SettledReader:
    """Reader of views of which each image has as many as it took to settle."""

    name: str
    """Name of the view, such as `raw`."""
    artifact: Artifact
    units: Units
    """Units of all rounds."""
    count: int
    """Views of an image that never settles; the weights of an image's views add up to it."""
    dim: int
    """Length of a vector."""
    _held: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Looks and views of units of the last images read; later ones may share them."""

    @classmethod
    def of(
        cls, name: str, artifact: Artifact, units: Units, identity: Mapping[str, Any]
    ) -> SettledReader:
        """Make the reader of a finished artifact, with what its stage says of it."""
        count = identity["settled"]["config"]["rule"]["count"]
        first = artifact.table("crops", units[0], columns=["vector"])
        return cls(name, artifact, units, count, len(first["vector"].iloc[0]))

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Read a slice of images, in the order of their views, padded to the most of one of them.

        Returns:
            Vectors, float16 (images, most, dim); zero where padded.
            Weights, float64 (images, most): how many of N views each stands for; zero where padded.

        Raises:
            Damaged: If an image was embedded in another order than it was decided in, as where its
                first round was made again on another machine. Its later rounds are then marked, so
                that the next run makes them again.
        """
        vectors, weights, _ = self.numbered(rows)
        return vectors, weights

    def numbered(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read vectors and weights as `read` does, and the number of each view.

        Numbers are int64 (images, most); -1 where padded.
        """
        used = self.looks(rows)["crops_used"].to_numpy()
        shape = len(used), used.max()
        vectors, weights = np.zeros((*shape, self.dim), np.float16), np.zeros(shape)
        embedded, counted = np.full((2, *shape), -1)
        for _, of_vectors, of_weights in self._parts(rows):
            for values, numbers, (at, found) in (
                (vectors, embedded, of_vectors), (weights, counted, of_weights),
            ):  # fmt: skip
                own = (at[:, 0] >= rows.start) & (at[:, 0] < rows.stop)
                place = at[own, 0] - rows.start, at[own, 1]
                values[place], numbers[place] = found[own], at[own, 2]
        if (embedded != counted).any():
            later = (unit.name for unit in self._units(rows) if unit.round)
            self.artifact.damaged(f"a round of images {rows.start} to {rows.stop - 1}", *later)
        return vectors, self.count * weights, embedded

    def looks(self, rows: slice) -> pd.DataFrame:
        """Read the last look at each image of a slice: crops_used, bound, round; by image."""
        import pandas as pd

        table = pd.concat([looks for looks, *_ in self._parts(rows)], ignore_index=True)
        own = table.loc[table["image"].between(rows.start, rows.stop - 1)]
        last: pd.DataFrame = own.groupby("image").last()
        if len(last) != rows.stop - rows.start:
            raise AbsError(f"embeddings-{self.name} lacks images of {rows.start} to {rows.stop}")
        return last

    def _parts(self, rows: slice) -> list[tuple[pd.DataFrame, Placed, Placed]]:
        """Read looks, views and weights of all units with any of the images, round after round."""
        units = self._units(rows)
        held = {unit.name: self._held.get(unit.name) or self._part(unit) for unit in units}
        self._held.clear()
        self._held.update(held)
        return list(held.values())

    def _units(self, rows: slice) -> Sequence[Unit]:
        """Return the units with any of the images, round after round."""
        return self.units.overlapping(range(rows.start, rows.stop), None)

    def _part(self, unit: Unit) -> tuple[pd.DataFrame, Placed, Placed]:
        looks = self.artifact.table("looks", unit)
        views = vector_table(self.artifact, unit, ["image", "crop"], self.dim)
        if views is None:
            raise _lost(self.artifact, unit, "crops")
        table = self.artifact.table("weights", unit)
        assert unit.crops is not None
        taken = _in_order(views[0], range(unit.crops.start, unit.crops.stop))
        counted = _in_order(table[["image", "crop"]].to_numpy(), range(unit.crops.stop))
        return looks, (taken, views[1]), (counted, table["weight"].to_numpy())


def _in_order(views: np.ndarray, places: range) -> np.ndarray:
    """Insert the place in its order between image and number of each view, int64 (n, 3).

    Every image has as many views as there are places.
    """
    return np.insert(views, 1, np.tile(np.asarray(places), len(views) // len(places)), axis=1)


def look_tables(
    unit: Unit,
    rows: Sequence[int],
    order: np.ndarray,
    places: np.ndarray,
    columns: Sequence[str],
    vectors: np.ndarray,
    look: Look,
    rule: SettlingRule,
) -> dict[str, pd.DataFrame]:
    """Build the tables of a unit.

    Args:
        unit: Unit of a round.
        rows: Its images that had not settled.
        order: Numbers of their views in the order in which they are taken, int64 (images, N).
        places: Place of each of their views in this round, int64 (images * views, 4).
        columns: Columns of a place.
        vectors: float16 (images, views, dim).
        look: What a look at each image after this round found.
        rule: Rule by which they settle.
    """
    import pandas as pd

    assert unit.crops is not None
    images, used = np.asarray(rows, np.int64), unit.crops.stop
    flat = vectors.astype(np.float32).reshape(-1, vectors.shape[-1])
    table = {
        **_numbered(images, order[:, unit.crops]),
        **dict(zip(columns, places.T, strict=True)),
        "vector": pd.Series(list(flat), dtype=object),
    }
    settled = look.bounds <= rule.p
    looks = {
        "image": images,
        "crops_used": np.full(len(rows), used),
        "bound": look.bounds,
        "round": np.full(len(rows), unit.round),
        "settled": settled,
    }
    stopped = settled | (used == rule.count)
    weights = {
        **_numbered(images[stopped], order[stopped, :used]),
        "weight": look.weights[stopped].reshape(-1),
    }
    tables = {"crops": table, "looks": looks, "weights": weights}
    if unit.round == 0:
        tables["order"] = _numbered(images, order)
    return {name: pd.DataFrame(columns) for name, columns in tables.items()}


def _numbered(images: np.ndarray, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns image and crop, from the numbers of crops of each image, (images, n)."""
    return {"image": np.repeat(images, crops.shape[1]), "crop": crops.reshape(-1)}


def saved(looks: Iterable[pd.DataFrame], count: int) -> str:
    """Say in a line how many views were embedded, from the tables of looks."""
    import pandas as pd

    last = pd.concat(list(looks)).sort_values("crops_used").groupby("image").last()
    used, all_of_them = int(last["crops_used"].sum()), count * len(last)
    never = int((last["crops_used"] == count).sum())
    return (
        f"{used / max(1, len(last)):.1f} of {count} crops an image, {used:,} of {all_of_them:,} "
        f"({1 - used / max(1, all_of_them):.0%} saved); "
        f"{never:,} of {len(last):,} images took all"
    )
