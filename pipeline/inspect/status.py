"""The state of a store: which stages are finished, what is left to do, what made them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pipeline.core.code import code_of
from pipeline.core.errors import MissingInput
from pipeline.engine.inline import PREFETCH
from pipeline.inspect.times import ForeseenStore, foresee
from pipeline.stage import Stage
from pipeline.store.artifact import Artifact
from pipeline.store.claims import living
from pipeline.store.store import Store
from pipeline.store.units import Footprint


def drifted(artifact: Artifact, stage: Stage) -> bool:
    """Return whether any finished unit was computed by other code than the stage has now."""
    now = code_of(stage)
    return any(maker.get("code") != now for maker in artifact.makers())


def states(store: Store, stages: list[Stage], forced: Iterable[Stage] = ()) -> list[dict[str, Any]]:
    """State, key, units, bytes, age and folder of each stage, without computing anything.

    Stages in `forced` are to be computed again whatever is there.
    """
    rows = [_state(store, stage) for stage in stages]
    for row in rows:
        if row["stage"] in {stage.name for stage in forced}:
            row["state"] = "forced"
    return rows


def _state(store: Store, stage: Stage) -> dict[str, Any]:
    artifact = store.artifact(stage)
    state: dict[str, Any] = {"stage": stage.name, "key": stage.key, "path": str(artifact.path)}
    try:
        units = stage.units(store)
    except MissingInput:
        # Its inputs are not there, so how many units it needs is not known yet.
        return state | {"state": "missing", "units": None, "done": 0, "bytes": 0, "age": None}
    missing = artifact.missing(units)
    failures = artifact.path / "failures"
    state["state"] = "done" if missing is None else missing
    state["units"] = len(units)
    state["done"] = len(units) if missing is None else len(artifact.finished(units))
    state["failed"] = len(list(failures.glob("*.txt"))) if missing and failures.is_dir() else 0
    state["running"] = sorted({claim.who for claim in living(artifact.path / "claims")})
    state["code_drift"] = drifted(artifact, stage)
    if missing is None:
        finished = datetime.fromisoformat(artifact.manifest["finished"])
        state["bytes"] = artifact.manifest["bytes"]
        state["remarks"] = artifact.manifest.get("remarks") or []
        state["age"] = round((datetime.now(UTC) - finished).total_seconds())
    else:
        state["bytes"], state["age"] = 0, None
    return state


def plan(store: Store, stages: list[Stage], forced: Iterable[Stage] = ()) -> list[dict[str, Any]]:
    """The states, with what is left to do of each stage.

    todo: units. items: images, crops or texts in them. seconds: expected on this machine; basis:
    what from. writes: bytes of arrays they will take in the store. holds: bytes of memory for
    the units on their way, beside the model. None where it is not known yet.
    """
    rows, counting = states(store, stages, forced), ForeseenStore.of(store)
    for row, stage, ahead in zip(rows, stages, foresee(store, stages, forced), strict=True):
        row |= _work(counting, stage, row)
        row |= {"items": ahead.items, "counts": ahead.counts}
        row |= {"seconds": ahead.seconds, "basis": ahead.basis}
    return rows


def _work(store: ForeseenStore, stage: Stage, row: dict[str, Any]) -> dict[str, Any]:
    todo = _todo(store, stage, row)
    if todo == 0:
        return {"todo": 0, "writes": 0, "holds": 0}
    try:
        each = stage.footprint(store)
    except MissingInput:
        each = Footprint(None, None)
    at_once = 1 + 2 * PREFETCH if todo is None else min(todo, 1 + 2 * PREFETCH)
    return {
        "todo": todo,
        "writes": None if todo is None or each.written is None else todo * each.written,
        "holds": None if each.held is None else at_once * each.held + each.open,
    }


def _todo(store: ForeseenStore, stage: Stage, row: dict[str, Any]) -> int | None:
    """Return the number of units left, by the images of the dataset where there is no index yet;
    None if it is not known.
    """
    if row["state"] == "done":
        return 0
    try:
        units = len(stage.units(store)) if row["units"] is None else row["units"]
    except MissingInput:
        return None
    return int(units - (0 if row["state"] == "forced" else row["done"]))
