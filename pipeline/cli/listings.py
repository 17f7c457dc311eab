"""Rows of `abs list`, by what is listed. Libraries are imported only for models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.cli.stores import stores_of
from pipeline.core.layers import found, layered, paths_of, read_yaml
from pipeline.core.paths import Paths
from pipeline.datasets.config import DatasetConfig
from pipeline.methods.registry import METHODS
from pipeline.store.runs import records
from pipeline.studies.stored import stored_sweeps

Rows = list[dict[str, Any]]


def _datasets(paths: Paths) -> Rows:
    """Name, images as published, whether the images are there, and the file of settings."""
    rows: Rows = []
    for name, path in sorted(found("datasets").items()):
        try:
            config = DatasetConfig.model_validate(read_yaml(path).get("dataset"))
        except ValidationError:
            rows.append(
                {"name": name, "images": None, "there": "wrong settings", "file": str(path)}
            )
            continue
        there = next((root for root in config.root if paths.there(root)), None)
        images = config.published.images
        rows.append({"name": name, "images": images, "there": there or "", "file": str(path)})
    return rows


def _methods(paths: Paths) -> Rows:
    """Name, text sets, and the first sentence of the class."""
    return [
        {"name": name, "texts": ", ".join(method.texts), "about": _first(inspect.getdoc(method))}
        for name, method in METHODS.items()
    ]


def _profiles(paths: Paths) -> Rows:
    """Name, the comment at the top of the file, and the file."""
    return [
        {"name": name, "about": _comment(path), "file": str(path)}
        for name, path in sorted(found("profiles").items())
    ]


def _experiments(paths: Paths) -> Rows:
    """Name, what it is about, and the table of the paper."""
    rows = []
    for name, path in sorted(found("experiments").items()):
        values = read_yaml(path)
        about, paper = str(values.get("about", "")), str(values.get("paper", ""))
        rows.append({"name": name, "about": about, "paper": paper})
    return rows


def _models(paths: Paths) -> Rows:
    """Section, model and weights, and where these are on this machine; those at hand first."""
    from pipeline.models.at_hand import attention_models, clips  # imports the libraries

    models = [*clips(paths), *attention_models(paths)]
    return [known.as_dict() for known in sorted(models, key=lambda known: known.file is None)]


def _first(docstring: str | None) -> str:
    return " ".join((docstring or "").partition("\n\n")[0].split())


def _comment(path: Path) -> str:
    """Return the first sentence of the comment at the top of a YAML file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = [line.lstrip("# ") for line in lines[: next(_after_comment(lines), 0)]]
    return " ".join(top).partition(". ")[0].rstrip(".")


def _after_comment(lines: list[str]) -> Any:
    return (number for number, line in enumerate(lines) if not line.startswith("#"))


def _named(rows: Callable[[Paths], Rows]) -> Callable[..., Rows]:
    """Rows of what configurations name."""

    def listed(
        dataset: str | None, profile: str, overrides: Sequence[str], weights: str | None
    ) -> Rows:
        return rows(paths_of(layered(dataset, profile, overrides, weights)))

    return listed


def _runs(dataset: str | None, profile: str, overrides: Sequence[str], weights: str | None) -> Rows:
    """Dataset, options and age of the recorded runs, the last first."""
    return [
        {
            "dataset": store.dataset,
            "options": record.options,
            "state": "running" if record.running else "",
            "days": round(record.days, 1),
        }
        for store in stores_of(dataset, profile, overrides, weights)
        for record in records(store)
    ]


def _sweeps(
    dataset: str | None, profile: str, overrides: Sequence[str], weights: str | None
) -> Rows:
    """Name, dataset, number of runs, common settings and age of the stored sweeps."""
    stores = stores_of(dataset, profile, overrides, weights)
    return [sweep.as_dict() for sweep in chain.from_iterable(map(stored_sweeps, stores))]


ROWS: dict[str, Callable[..., Rows]] = {
    "datasets": _named(_datasets),
    "methods": _named(_methods),
    "profiles": _named(_profiles),
    "experiments": _named(_experiments),
    "models": _named(_models),
    "runs": _runs,
    "sweeps": _sweeps,
}
"""Functions of dataset, profile, overrides and folder of weights, by what they list."""
