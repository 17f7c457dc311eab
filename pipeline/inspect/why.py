"""Explain why a stage has to be computed: its differences from the nearest stored artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core.errors import MissingInput
from pipeline.core.hashing import SCHEMA, canonical
from pipeline.core.section import flatten
from pipeline.stage import Stage
from pipeline.store.artifact import IDENTITY, Artifact
from pipeline.store.store import Store

MISSING = "unset"
"""Stand-in for a value that only one of two identities has."""


@dataclass(frozen=True)
class Reason:
    """One difference between a stage and a stored artifact."""

    kind: str
    """`setting`, `input` (a file from outside), `version` (of the code), `layout`, or `stages`."""
    stage: str
    """Name of the stage that differs: the stage itself, or one upstream."""
    name: str
    was: Any
    now: Any


def why(store: Store, stage: Stage) -> dict[str, Any]:
    """Return stage, key, state, the nearest other artifact, and why it cannot be used."""
    artifact = store.artifact(stage)
    try:
        units = stage.units(store)
        missing = artifact.missing(units)
    except MissingInput as error:
        missing = f"missing; first {error}"
    answer = {"stage": stage.name, "key": stage.key, "state": missing or "done"}
    if missing is None or missing.startswith(("partial", "damaged")):
        return answer | {"nearest": None, "reasons": []}
    others = store.artifacts(stage.name)
    compared = [
        (each, found) for each in others if (found := _differences(store, stage, each)) is not None
    ]
    if not compared:
        return answer | {"nearest": None, "reasons": []}
    nearest, reasons = min(compared, key=lambda pair: (len(pair[1]), -_written(pair[0])))
    return answer | {"nearest": nearest.path.name, "reasons": [asdict(each) for each in reasons]}


def _written(artifact: Artifact) -> float:
    return (artifact.path / IDENTITY).stat().st_mtime


def _differences(store: Store, stage: Stage, other: Artifact) -> list[Reason] | None:
    """List differences between an artifact and `stage`; None if its identity is unreadable."""
    then, now = other.identity, canonical(stage.identity())
    if then is None:
        return None
    if then["schema"] != SCHEMA:
        return [Reason("layout", stage.name, "layout of the store", then["schema"], SCHEMA)]
    found = []
    if then["version"] != now["version"]:
        found.append(Reason("version", stage.name, "version", then["version"], now["version"]))
    for kind, part in (("setting", "config"), ("input", "outside")):
        found += _changed(kind, stage.name, then[part], now[part])
    return found + _upstream(store, stage, dict(flatten(then["upstream"], "")))


def _changed(
    kind: str, stage: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[Reason]:
    was, is_ = dict(flatten(then, "")), dict(flatten(now, ""))
    for name in sorted(was.keys() | is_.keys()):
        pair = was.get(name, MISSING), is_.get(name, MISSING)
        if pair[0] != pair[1]:
            yield Reason(kind, stage, name.removeprefix("config."), *pair)


def _upstream(store: Store, stage: Stage, then: Mapping[str, Any]) -> list[Reason]:
    """List differences of upstream stages, from their stored identities where there are any."""
    keys = set(then.values())
    found: list[Reason] = []
    for up in stage.upstream:
        if up.key in keys:
            continue
        others = [store.folder / up.name / str(key) for key in keys]
        known = [Artifact(path, up.name) for path in others if (path / IDENTITY).exists()]
        compared = [each for other in known if (each := _differences(store, up, other)) is not None]
        whole = [Reason("stages", stage.name, f"reads {up.name}", MISSING, up.key)]
        found += [each for each in min(compared, key=len, default=whole) if each not in found]
    return found
