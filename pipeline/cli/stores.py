"""Stores that a command inspects, found without building any stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.layers import layered, paths_of
from pipeline.store.artifact import TRASH
from pipeline.store.store import RUNS, Store

FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Pattern of valid names for the folder of a dataset."""


def stores_of(
    dataset: str | None,
    profile: str = "official",
    overrides: Sequence[str] = (),
    weights_dir: str | None = None,
) -> list[Store]:
    """Return the store of one dataset, or without a dataset those of all.

    The dataset is looked up by its configuration, else by the name of its folder in the store.
    Raises ConfigError for a dataset that is neither configured nor stored.
    """
    if dataset is None:
        return _all(paths_of(layered(None, profile, overrides)).store)
    try:
        values = layered(dataset, profile, overrides, weights_dir)
    except ConfigError:
        root = paths_of(layered(None)).store
        if overrides or not FOLDER.fullmatch(dataset) or not (root / dataset).is_dir():
            raise
        return [Store(root, dataset)]
    return [Store(paths_of(values).store, _name_of(values, dataset))]


def _name_of(values: dict[str, object], dataset: str) -> str:
    section = values.get("dataset")
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str) or not FOLDER.fullmatch(name):
        raise ConfigError(f"dataset.name: {name!r} in {dataset} cannot be the name of a folder")
    return name


def _all(root: Path) -> list[Store]:
    stores = [Store(root, path.name) for path in sorted(root.glob("[!.]*")) if path.is_dir()]
    return [store for store in stores if store.artifacts() or _has_traces(store)]


def _has_traces(store: Store) -> bool:
    return any(any(store.folder.glob(trace)) for trace in (f"{RUNS}/*", f"*/{TRASH}*"))
