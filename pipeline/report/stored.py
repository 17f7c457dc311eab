"""The run that a report is about: found by its settings in a store, and only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pipeline.core.addresses import opened
from pipeline.core.errors import AbsError, ConfigError, MissingInput, did_you_mean
from pipeline.core.layers import (
    SEVERAL,
    Departure,
    Selection,
    layer,
    layered,
    parse_override,
    paths_of,
    plain,
)
from pipeline.core.section import flatten
from pipeline.settings import Settings, load, validate
from pipeline.store.artifact import Artifact
from pipeline.store.runs import Record, records
from pipeline.store.store import RUNS, Store

APART = ("runtime.", "paths.", "layout.", "dataset.name", "dataset.root")
"""Prefixes of settings that results do not depend on."""
SHOWN = 5
"""Settings that a message names."""
Values = dict[str, Any]
"""Settings by dotted name."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run on record."""

    store: Store
    record: Record
    settings: Settings
    """Settings on record, with the folders of this machine and those of the dataset as configured
    here."""
    differences: dict[str, tuple[Any, Any]]
    """Settings that are not as asked for: asked and stored, by dotted name."""
    others: int
    """Number of other finished runs of the dataset."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.store.dataset

    @cached_property
    def stages(self) -> list[str]:
        """Names of all stages of the run, each after those it reads."""
        reads = {n: self.artifact(n).manifest["upstream"] for n in self.record.artifacts}
        return list(TopologicalSorter(reads).static_order())

    @property
    def selection(self) -> str:
        """Profile, and the settings in which the run departs from it; else its options."""
        chosen = self.artifact("metrics").manifest.get("selection")
        if not chosen:
            return self.record.options
        departures = tuple(Departure(**each) for each in chosen["departures"])
        return str(Selection(chosen["dataset"], chosen["profile"], departures))

    @property
    def nearest(self) -> str:
        """Differences of the run from what was asked for, in a line; empty if there are none."""
        if not self.differences:
            return ""
        runs = self.others + 1
        return f"the nearest of {runs:,} finished runs has {_apart(self.differences)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`: dataset, settings, differences from those asked for."""
        differences = {
            name: {"asked": asked, "stored": stored}
            for name, (asked, stored) in self.differences.items()
        }
        return {"dataset": self.dataset, "settings": self.selection, "differences": differences}

    def artifact(self, stage: str) -> Artifact:
        """Return the artifact of a stage; reading it never changes the store."""
        path = self.store.folder / stage / self.record.artifacts[stage]
        return Artifact(path, stage, self.record.options, read_only=True)


def find_run(
    dataset: str,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    place: str | Path | None = None,
) -> StoredRun:
    """Find the finished run whose settings are nearest to those asked for.

    Settings that are named, by a profile or an override, must be as asked. The dataset's own files
    are not needed: a store can be read on another machine.

    Args:
        dataset: Name of the dataset, or its YAML file.
        profile: Name or YAML file of the profile; None for the default, `official`.
        overrides: Texts `section.field=value`.
        place: Folder or address of the store; None for that of the settings.

    Raises:
        ConfigError: For an unknown dataset, profile or setting.
        MissingInput: If no run has the settings that are named.
    """
    root = opened(paths_of(layered(None)).place if place is None else place)
    name, asked, root_here = _asked(dataset, profile or "official", overrides)
    store, named = Store(root, name), _named(profile, overrides)
    finished = [record for record in _records(store) if _is_finished(store, record)]
    fitting = [r for r in finished if not named & _unlike(asked, _values(r)).keys()]
    if not fitting:
        raise MissingInput(_nothing(store, dataset, finished, named, asked))
    record = min(fitting, key=lambda r: len(_unlike(asked, _values(r))))
    kept = {name: values for name, values in record.settings.items() if name != "runtime"}
    paths = {**(layered(None).get("paths") or {}), "artifacts": str(root)}
    if root_here is not None:
        kept["dataset"] = kept["dataset"] | {"root": root_here}
    settings = validate({**kept, "paths": paths})
    return StoredRun(store, record, settings, _unlike(asked, _values(record)), len(finished) - 1)


def _asked(
    dataset: str, profile: str, overrides: Sequence[str]
) -> tuple[str, Values, Sequence[str] | None]:
    """Return the folder of a dataset in the store, the settings asked for, and its files' places.

    Of a dataset that is not configured here, the settings are those that would hold for any, and
    the places are None.
    """
    try:
        settings = load(dataset, profile, overrides)
    except ConfigError:
        if dataset.endswith((".yaml", ".yml")):
            raise
        settings = load(None, profile, overrides)
        return dataset, _flat(settings.model_dump(mode="json")), None
    asked = _flat(settings.model_dump(mode="json"))
    return settings.dataset.name, asked, settings.dataset.root


def _named(profile: str | None, overrides: Sequence[str]) -> set[str]:
    """Return the names of the settings that a profile and overrides set."""
    texts = [part for text in overrides for part in SEVERAL.split(text.strip())]
    layers = [layer("profiles", profile)] if profile else []
    return {name for each in (*layers, *map(parse_override, texts)) for name in _flat(each)}


def _flat(values: dict[str, Any]) -> Values:
    return {name: v for name, v in flatten(values, "") if not name.startswith(APART)}


def _values(record: Record) -> Values:
    return _flat(record.settings)


def _unlike(asked: Values, stored: Values) -> dict[str, tuple[Any, Any]]:
    """Return settings that both have and that differ; a precision fit for the device is as asked.

    Those that only one has are of another version, or of texts and methods that the other lacks.
    """
    pairs = {name: (asked[name], stored[name]) for name in asked if name in stored}
    return {n: pair for n, pair in pairs.items() if pair[0] != pair[1] and pair[0] != "auto"}


def _records(store: Store) -> list[Record]:
    """Return the runs on record; ConfigError for a dataset that the store does not have."""
    if (store.folder / RUNS).is_dir():
        return records(store)
    folders = list(store.root.iterdir()) if store.root.is_dir() else []
    known = [path.name for path in folders if path.name[:1] != "." and (path / RUNS).is_dir()]
    hint = did_you_mean(store.dataset, known)
    raise ConfigError(f"no run of dataset {store.dataset!r} in {store.root}; {hint}")


def _is_finished(store: Store, record: Record) -> bool:
    path = store.folder / "metrics" / record.artifacts.get("metrics", "")
    try:
        return "metrics" in record.artifacts and bool(Artifact(path, "metrics").manifest)
    except AbsError:
        return False


def _nothing(
    store: Store, dataset: str, finished: list[Record], named: set[str], asked: Values
) -> str:
    """Say that no run is finished, or none with the settings that are named."""
    if not finished:
        return f"no finished run of {dataset!r} in {store.root}; run: abs run --dataset {dataset}"
    nearest = min((_unlike(asked, _values(r)) for r in finished), key=len)
    first = {name: nearest[name] for name in sorted(nearest, key=lambda name: name not in named)}
    return (
        f"no finished run of {dataset!r} in {store.root} has these settings; the nearest of "
        f"{len(finished)} has {_apart(first)}; run: abs run with the same options"
    )


def _apart(differences: dict[str, tuple[Any, Any]]) -> str:
    """Name settings with the value stored and the one asked for; of many, the first."""
    texts = [
        f"{n} {plain(stored)} instead of {plain(asked)}"
        for n, (asked, stored) in differences.items()
    ]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
