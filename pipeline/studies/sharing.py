"""What the runs of a sweep share: which crops they ask for, and how many are to be embedded."""

from __future__ import annotations

from collections.abc import Iterable
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

if TYPE_CHECKING:
    from pipeline.store.store import Store


def distinct_stages(runs: Iterable[Run]) -> dict[str, list[tuple[Run, Stage]]]:
    """Each distinct artifact once, by stage: of those that differ in N alone the largest."""
    found: dict[str, dict[str, tuple[Run, Stage]]] = {}
    for run in runs:
        for stage in run.stages:
            known = found.setdefault(stage.name, {}).get(stage.key)
            if known is None or _count(stage) > _count(known[1]):
                found[stage.name][stage.key] = run, stage
    return {name: list(stages.values()) for name, stages in found.items()}


def crops_asked(run: Run) -> int:
    """Crops that a run's methods read."""
    index = run.named("index")[0]
    images = len(index.dataset.samples)  # type: ignore[attr-defined]
    counts = run.settings.views
    return images * sum(count for name, count in counts.items() if name != "image")


def crops_to_embed(store: Store, stages: Iterable[Stage]) -> int | None:
    """Distinct views of unfinished units that no artifact can lend; None before they are drawn.

    What was made on another device or with another batch size is not lent, which is not known here.
    """
    try:
        return sum(_lacking(store, group) for group in _families(stages))
    except AbsError:
        return None


def crops_at_most(store: Store, stages: Iterable[Stage]) -> int | None:
    """All views of units that are not there; None before it is known how many these are."""
    try:
        return sum(
            int(unit.rows.stop - unit.rows.start) * stage.views.shape(store)[1]
            for group in _families(stages)
            for stage in group
            for unit in store.artifact(stage).unfinished(stage.units(store))
        )
    except AbsError:
        return None


def told(asked: int, embed: int | None, most: int | None) -> str:
    """`Crops asked for: 21,000; to embed: 6,300 (30%)`"""
    if embed is None and most is None:
        what = "not known before the stages above have run"
    elif embed is None:
        what = f"{most:,} at most, and fewer where settings draw alike"
    elif embed > asked:
        what = f"{embed:,}, as all windows that can be drawn are"
    else:
        what = f"{embed:,} ({embed / max(asked, 1):.0%})"
    return f"Crops asked for: {asked:,}; to embed: {what}"


def _families(stages: Iterable[Stage]) -> list[list[ViewEmbeddings]]:
    """Those that can lend to each other together."""
    groups: dict[str, list[ViewEmbeddings]] = {}
    for stage in stages:
        if isinstance(stage, ViewEmbeddings):
            views = stage.views.common_values(stage.views.identity())
            key = digest({"family": family(stage.identity()), "views": views})
            groups.setdefault(key, []).append(stage)
    return list(groups.values())


def _lacking(store: Store, group: list[ViewEmbeddings]) -> int:
    units: dict[str, Unit] = {}
    wanting: dict[str, list[ViewEmbeddings]] = {}
    for stage in group:
        for unit in store.artifact(stage).unfinished(stage.units(store)):
            units[unit.name] = unit
            wanting.setdefault(unit.name, []).append(stage)
    lenders = list(sources(store, group[0], group[0].views))
    return sum(_new(store, units[name], stages, lenders) for name, stages in wanting.items())


def _new(store: Store, unit: Unit, stages: list[ViewEmbeddings], lenders: list[StoredViews]) -> int:
    """Distinct views of a unit that some stages want and no artifact has."""
    columns, maker = stages[0].columns, {"code": code_of(stages[0])}
    lent = [places(each.views, unit, columns) for each in lenders if each.receipt(unit.name, maker)]
    there = [rows for rows in lent if rows is not None]
    wanted = [places(store.artifact(stage.views), unit, columns) for stage in stages]
    drawn = [rows for rows in wanted if rows is not None]
    if len(drawn) < len(wanted):
        raise MissingInput(f"{unit.name}: its views are not drawn yet")
    _, names = np.unique(np.concatenate([*there, *drawn]), axis=0, return_inverse=True)
    known, asked = np.split(names.reshape(-1), [sum(map(len, there))])
    return len(np.setdiff1d(asked, known))


def _count(stage: Stage) -> int:
    """Crops of each image that an artifact is asked for."""
    views = getattr(stage, "views", stage)
    return int(getattr(views, "count", 0))
