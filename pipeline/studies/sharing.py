"""Artifacts that the runs of a sweep share, the crops they use, and the crops left to embed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.code import code_of
from pipeline.core.errors import AbsError, MissingInput
from pipeline.core.hashing import digest
from pipeline.run import Run
from pipeline.stage import Stage
from pipeline.store.units import Unit
from pipeline.views.reuse import StoredViews, family, places, sources
from stages.embeddings import ViewEmbeddings
from stages.settled import SettledEmbeddings

if TYPE_CHECKING:
    from pipeline.store.store import Store


def distinct_stages(runs: Iterable[Run]) -> dict[str, list[tuple[Run, Stage]]]:
    """Return the distinct artifacts of the runs by the stage's name; one for each key.

    N is not in a key: of stages with the same key the one with the largest N is returned.
    """
    by_name: dict[str, dict[str, tuple[Run, Stage]]] = {}
    for run in runs:
        for stage in run.stages:
            by_key = by_name.setdefault(stage.name, {})
            _, other = by_key.get(stage.key, (run, None))
            if other is None or _views_per_image(stage) > _views_per_image(other):
                by_key[stage.key] = run, stage
    return {name: list(by_key.values()) for name, by_key in by_name.items()}


def crops_used(run: Run) -> int:
    """Count the crops that the methods of a run read."""
    index = run.named("index")[0]
    images: int = index.dataset.count  # type: ignore[attr-defined]
    counts = run.settings.views
    return images * sum(count for name, count in counts.items() if name != "image")


def crops_to_embed(store: Store, stages: Sequence[Stage]) -> int | None:
    """Count the distinct views left to embed; None before the views of all units are drawn.

    A lower bound: vectors computed on another device or with another batch size are counted as
    reusable here, but a run computes them again. None also while images may settle early: how many
    crops they take is known afterwards.
    """
    try:
        if _settling_crops(store, stages):
            return None
        return sum(_missing_views(store, group) for group in _families(stages))
    except AbsError:
        return None


def crops_at_most(store: Store, stages: Sequence[Stage]) -> int | None:
    """Count all views of unfinished units; None before the number of units is known."""
    try:
        return _settling_crops(store, stages) + sum(
            int(unit.rows.stop - unit.rows.start) * stage.views.shape(store)[1]
            for group in _families(stages)
            for stage in group
            for unit in store.artifact(stage).unfinished(stage.units(store))
        )
    except AbsError:
        return None


def _settling_crops(store: Store, stages: Iterable[Stage]) -> int:
    """Count the crops of all unfinished rounds, as if no image settled."""
    return sum(
        unit.size
        for stage in stages
        if isinstance(stage, SettledEmbeddings)
        for unit in store.artifact(stage).unfinished(stage.units(store))
    )


def crop_summary(used: int, embed: int | None, most: int | None) -> str:
    """Format the counts, such as `Crops used: 21,000; to embed: 6,300 (30%)`."""
    if embed is None and most is None:
        count = "unknown until the stages above have run"
    elif embed is None:
        count = f"at most {most:,}, fewer if settings share crops or images settle"
    elif embed > used:
        count = f"{embed:,}, because every possible window is embedded"
    else:
        count = f"{embed:,} ({embed / max(used, 1):.0%})"
    return f"Crops used: {used:,}; to embed: {count}"


def _families(stages: Iterable[Stage]) -> list[list[ViewEmbeddings]]:
    """Group the stages of embeddings that can reuse each other's vectors."""
    families: dict[str, list[ViewEmbeddings]] = {}
    for stage in stages:
        if isinstance(stage, ViewEmbeddings):
            views = stage.views.common_values(stage.views.identity())
            key = digest({"family": family(stage.identity()), "views": views})
            families.setdefault(key, []).append(stage)
    return list(families.values())


def _missing_views(store: Store, stages: list[ViewEmbeddings]) -> int:
    """Count the distinct views that a family still has to embed, over all its unfinished units."""
    units: dict[str, Unit] = {}
    unfinished: dict[str, list[ViewEmbeddings]] = {}
    for stage in stages:
        for unit in store.artifact(stage).unfinished(stage.units(store)):
            units[unit.name] = unit
            unfinished.setdefault(unit.name, []).append(stage)
    stored = list(sources(store, stages[0], stages[0].views))
    return sum(_new_views(store, units[name], of, stored) for name, of in unfinished.items())


def _new_views(
    store: Store, unit: Unit, stages: list[ViewEmbeddings], stored: list[StoredViews]
) -> int:
    """Count the distinct views of a unit that the stages need and no artifact has embedded.

    Raises MissingInput if the views of a stage are not drawn yet.
    """
    columns, code = stages[0].columns, code_of(stages[0])
    grid, rows = stages[0].units(store), range(unit.rows.start, unit.rows.stop)
    embedded = [
        found
        for source in stored
        for part in source.units(grid, rows, unit.crops)
        if source.receipt(part.name, code, {})
        if (found := source.places(part, columns)) is not None
    ]
    required = [places(store.artifact(stage.views), unit, columns) for stage in stages]
    drawn = [rows for rows in required if rows is not None]
    if len(drawn) < len(required):
        raise MissingInput(f"{unit.name}: its views are not drawn yet")
    _, ids = np.unique(np.concatenate([*embedded, *drawn]), axis=0, return_inverse=True)
    known, needed = np.split(ids.reshape(-1), [sum(map(len, embedded))])
    return len(np.setdiff1d(needed, known))


def _views_per_image(stage: Stage) -> int:
    """Return the number of views per image that a stage draws or embeds; 0 for other stages."""
    views = getattr(stage, "views", stage)
    return int(getattr(views, "count", 0))
