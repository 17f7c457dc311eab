"""Layers of settings, one above the other: YAML files of `cfgs/`, then `section.field=value`.

Files are looked for in `cfgs/` of the working folder first, then in those that ship with the
project. Nothing here knows which sections there are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.core.addresses import LOCAL, is_address
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.paths import ENVIRONMENT, INSTALLED, PROJECT, Paths, expand

CFGS = PROJECT / "pipeline" / "cfgs" if INSTALLED else PROJECT / "cfgs"
"""The configurations that ship with the project."""
NO_DATASET = {"dataset": {"name": "none", "root": "none"}}
"""Placeholder for the dataset section where no dataset is given."""
SEVERAL = re.compile(r"\s+(?=[a-z_]+(?:\.[A-Za-z0-9_-]+)+=)")
"""Pattern of the white space between several overrides in one text."""


def layered(
    dataset: str | None,
    profile: str = "official",
    overrides: Iterable[str] = (),
    weights: str | None = None,
) -> dict[str, Any]:
    """Merge all layers of a run into nested mappings, without validating them.

    `default.yaml` < dataset < profile < `overrides` < environment for paths. The dataset and the
    profile are names in `cfgs/`, or YAML files; without a dataset: what would hold for any. An
    override is `section.field=value`, the value written as in YAML; one text may hold several.
    `weights` is the folder of weights, whatever the environment says. Raises ConfigError.
    """
    values = read_yaml(CFGS / "default.yaml")
    of_dataset = NO_DATASET if dataset is None else layer("datasets", dataset)
    for each in (of_dataset, layer("profiles", profile)):
        values = merge(values, each)
    for text in overrides:
        for override in SEVERAL.split(text.strip()):
            values = merge(values, parse_override(override))
    return merge(values, {"paths": _places(weights)})


def _places(weights: str | None) -> dict[str, str]:
    """Absolute folders and addresses from the environment variables."""
    given = {field: os.environ.get(name) for name, field in ENVIRONMENT.items()}
    if weights:
        given["weights"] = weights
    return {
        field: place if is_address(place) else str(expand(place.removeprefix(LOCAL)).absolute())
        for field, place in given.items()
        if place
    }


def paths_of(values: Mapping[str, Any]) -> Paths:
    """The section `paths` of layered settings; ConfigError if it is not valid."""
    try:
        return Paths.model_validate(values.get("paths") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("paths", *first["loc"])))
        raise ConfigError(f"{where}: {first['msg'].lower()}") from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; values of `above` win."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_override(override: str) -> dict[str, Any]:
    """Parse `a.b=c` into nested mappings; ConfigError for another form."""
    path, equals, text = override.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(f"--set {override!r}: write section.field=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def own_cfgs() -> Path:
    """Return the folder that new configurations are written to: `cfgs/` of the checkout, or of the
    working folder where the package is installed."""
    return Path.cwd() / "cfgs" if INSTALLED else CFGS


def found(folder: str) -> dict[str, Path]:
    """Map names to the YAML files in a folder of `cfgs`; a file of the working folder wins."""
    places = (CFGS / folder, Path.cwd() / "cfgs" / folder)
    return {path.stem: path for place in places for path in sorted(place.glob("*.yaml"))}


def known(folder: str) -> list[str]:
    """Names of the YAML files in a folder of `cfgs`."""
    return sorted(found(folder))


def layer(folder: str, name: str) -> dict[str, Any]:
    """The sections of a file: one in a folder of `cfgs`, or a YAML file anywhere.

    Raises ConfigError.
    """
    if name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name))
    files = found(folder)
    if name not in files:
        hint = did_you_mean(name, files)
        place = own_cfgs() / folder
        raise ConfigError(f"unknown {folder.removesuffix('s')} {name!r}; {hint} (in {place})")
    return read_yaml(files[name])


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file; ConfigError if it cannot be read or holds anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML") from None
    if not isinstance(content, dict | None):
        raise ConfigError(f"{path}: expected sections, found {type(content).__name__}")
    return content or {}
