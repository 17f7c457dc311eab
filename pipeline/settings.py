"""All settings of a run: `default.yaml` < dataset < profile < `--set` < environment for paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config import Section
from pipeline.datasets import DatasetConfig
from pipeline.errors import ConfigError, closest
from pipeline.locations import PROJECT, Paths, expand
from pipeline.models.sources import ClipConfig, VitConfig
from pipeline.runtime import Layout, Runtime
from stages.crops import CropsConfig
from stages.descriptions import DescriptionsConfig
from stages.embeddings import FeatureConfig
from stages.index import IndexConfig
from stages.scores import ScoresConfig

CFGS = PROJECT / "cfgs"
ENVIRONMENT = {"ABS_ARTIFACTS": "artifacts", "ABS_DATA": "data", "ABS_WEIGHTS": "weights"}


class Settings(Section):
    """One section per stage or shared concern."""

    dataset: DatasetConfig
    index: IndexConfig = IndexConfig()
    clip: ClipConfig
    descriptions: DescriptionsConfig
    attention: VitConfig
    crops: CropsConfig = CropsConfig()
    feature: FeatureConfig = FeatureConfig()
    scores: ScoresConfig = ScoresConfig()
    layout: Layout = Layout()
    runtime: Runtime = Runtime()
    paths: Paths = Paths()


def load(dataset: str, profile: str = "official", changes: Iterable[str] = ()) -> Settings:
    """The settings of a dataset (a name in `cfgs/datasets`, or a YAML file) under a profile.

    `changes` are `section.field=value`, the value written as in YAML; one text may hold several,
    as make passes them. Raises ConfigError.
    """
    values = _read(CFGS / "default.yaml")
    for layer in (_layer("datasets", dataset), _layer("profiles", profile)):
        values = merge(values, layer)
    for change in changes:
        for part in re.split(r"\s+(?=[a-z_]+(?:\.[a-z_]+)+=)", change.strip()):
            values = merge(values, parse_change(part))
    places = {
        field: os.environ[name] for name, field in ENVIRONMENT.items() if os.environ.get(name)
    }
    places = {field: str(expand(place).absolute()) for field, place in places.items()}
    return validate(merge(values, {"paths": places}))


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` says instead, mapping by mapping."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_change(change: str) -> dict[str, Any]:
    """`a.b=c` as nested mappings."""
    path, equals, text = change.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(f"--set {change!r}: write section.field=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {change!r}: the value is not valid YAML") from None
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def validate(values: Mapping[str, Any]) -> Settings:
    """`values` as Settings; ConfigError names the first wrong one and the closest that exists."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            hint = closest(str(first["loc"][-1]), fields_at(first["loc"][:-1]))
            raise ConfigError(f"unknown setting {where!r}; {hint}") from None
        if isinstance(cause := first.get("ctx", {}).get("error"), Exception):
            raise ConfigError(f"{where}: {cause}") from None
        if first["type"] == "model_type":
            raise ConfigError(f"{where}: needs fields, not {first['input']!r}") from None
        given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{where}: {message}{given}") from None


def changed(settings: Settings) -> dict[str, Any]:
    """The settings that are not as in `default.yaml`."""
    default = _read(CFGS / "default.yaml")
    differing: dict[str, Any] = {}
    for section, values in settings.model_dump(mode="json").items():
        below = default.get(section, {})
        other = {k: v for k, v in values.items() if k not in below or below[k] != v}
        differing |= {section: other} if other else {}
    return differing


def fields_at(path: Iterable[str | int]) -> list[str]:
    """Names of the fields of the section at `path`."""
    section: type[Section] = Settings
    for name in path:
        section = section.model_fields[str(name)].annotation  # type: ignore[assignment]
    return list(section.model_fields)


def known(folder: str) -> list[str]:
    """Names of the YAML files in a folder of `cfgs`."""
    return sorted(path.stem for path in (CFGS / folder).glob("*.yaml"))


def _layer(folder: str, name: str) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name))
    path = CFGS / folder / f"{name}.yaml"
    if name not in known(folder):
        hint = closest(name, known(folder))
        raise ConfigError(f"unknown {folder.removesuffix('s')} {name!r}; {hint} (in {path.parent})")
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
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
