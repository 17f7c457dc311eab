"""All settings of a run: `default.yaml` < dataset < profile < `--set` < environment for paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from pipeline.addresses import LOCAL, is_address
from pipeline.config import Section, leaves
from pipeline.datasets import DatasetConfig
from pipeline.errors import ConfigError, closest
from pipeline.locations import PROJECT, Paths, expand
from pipeline.methods import METHODS, method_of, views_read
from pipeline.methods.base import Method
from pipeline.models.sources import ClipConfig, VitConfig
from pipeline.runtime import Layout, Runtime
from pipeline.views import CropsConfig, SquaresConfig, WindowsConfig
from stages.descriptions import RULES, TextSet
from stages.embeddings import FeatureConfig, RawConfig
from stages.index import IndexConfig
from stages.scores import ScoresConfig

CFGS = PROJECT / "cfgs"
NONE = {"dataset": {"name": "none", "root": "none"}}
"""Stands in for a dataset where none is given."""
OPEN: dict[str, Mapping[str, type[Section]]] = {"descriptions": RULES, "methods": METHODS}
"""Sections of any name, and what can lie under one: by its rule, or by its own name."""
ENVIRONMENT = {"ABS_ARTIFACTS": "artifacts", "ABS_DATA": "data", "ABS_WEIGHTS": "weights"}


def _of_methods(given: Any) -> Any:
    """Settings of methods by name, each a section that the method itself defines."""
    if not isinstance(given, Mapping):
        return given
    found = {}
    for name, values in given.items():
        if isinstance(values, Method):
            found[name] = values
            continue
        try:
            found[name] = method_of(str(name)).model_validate(values)
        except ValidationError as error:
            raise explained(error, ("methods", name)) from None
    return found


class Settings(Section):
    """One section per stage or shared concern."""

    dataset: DatasetConfig
    index: IndexConfig = IndexConfig()
    clip: ClipConfig
    descriptions: dict[str, TextSet]
    attention: VitConfig
    crops: CropsConfig = CropsConfig()
    raw: RawConfig = RawConfig()
    windows: WindowsConfig = WindowsConfig()
    feature: FeatureConfig = FeatureConfig()
    squares: SquaresConfig = SquaresConfig()
    scores: ScoresConfig = ScoresConfig()
    methods: Annotated[dict[str, SerializeAsAny[Method]], BeforeValidator(_of_methods)] = Field(
        default_factory=dict
    )
    layout: Layout = Layout()
    runtime: Runtime = Runtime()
    paths: Paths = Paths()

    @property
    def chosen(self) -> dict[str, Method]:
        """The methods to score, with their settings: those asked for, or all that have texts."""
        names = self.scores.methods or [name for name in METHODS if not self.lacking(name)]
        if not names:
            raise ConfigError("scores.methods: no method has its texts; see descriptions.*.file")
        for name in names:
            if unknown := [t for t in METHODS[name].texts if t not in self.descriptions]:
                raise ConfigError(f"descriptions: no text set {unknown[0]!r}, which {name} reads")
        return {name: self.methods.get(name) or METHODS[name]() for name in names}

    def lacking(self, method: str) -> list[str]:
        """What keeps a method from having its texts: a setting, and what is the matter with it."""
        sets = {name: self.descriptions.get(name) for name in METHODS[method].texts}
        why = {
            name: "rule is not given" if found is None else found.lacking(self.paths)
            for name, found in sets.items()
        }
        return [f"descriptions.{name}.{reason}" for name, reason in why.items() if reason]

    @property
    def views(self) -> dict[str, int]:
        """The views that the methods read, and how many of each."""
        return views_read(self.chosen.values(), self.scores.matching)

    @property
    def texts(self) -> list[str]:
        """The text sets that the methods read."""
        return sorted({name for method in self.chosen.values() for name in method.texts})


def load(
    dataset: str | None,
    profile: str = "official",
    changes: Iterable[str] = (),
    weights: str | None = None,
) -> Settings:
    """The settings of a dataset (a name in `cfgs/datasets`, or a YAML file) under a profile.

    Without a dataset: what would hold for any, to look at and not to run.
    `changes` are `section.field=value`, the value written as in YAML; one text may hold several,
    as make passes them. `weights` is the folder of weights, whatever the environment says.
    Raises ConfigError.
    """
    values = _read(CFGS / "default.yaml")
    of_dataset = NONE if dataset is None else layer("datasets", dataset)
    for each in (of_dataset, layer("profiles", profile)):
        values = merge(values, each)
    for change in changes:
        for part in re.split(r"\s+(?=[a-z_]+(?:\.[A-Za-z0-9_-]+)+=)", change.strip()):
            values = merge(values, parse_change(part))
    places = {
        field: os.environ[name] for name, field in ENVIRONMENT.items() if os.environ.get(name)
    }
    places |= {"weights": weights} if weights else {}
    places = {
        field: place if is_address(place) else str(expand(place.removeprefix(LOCAL)).absolute())
        for field, place in places.items()
    }
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
        raise explained(error) from None


def explained(error: ValidationError, above: tuple[str, ...] = ()) -> ConfigError:
    """The first thing wrong, in one line; `above` is where the validated values belong."""
    first = error.errors()[0]
    path = tuple(map(str, (*above, *first["loc"])))
    known = path
    if path[0] == "descriptions" and len(path) > 2:  # the name of a set, and its rule
        path, known = (*path[:2], *path[3:]), (path[0], *path[2:])
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        hint = closest(known[-1], fields_at(known[:-1]))
        return ConfigError(f"unknown setting {where!r}; {hint}")
    if first["type"].startswith("union_tag"):
        return ConfigError(f"{where}.rule: give one of {', '.join(RULES)}")
    if isinstance(cause := first.get("ctx", {}).get("error"), Exception):
        return ConfigError(f"{where}: {cause}")
    if first["type"] == "model_type":
        return ConfigError(f"{where}: needs fields, not {first['input']!r}")
    given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(f"{where}: {message}{given}")


def changed(settings: Settings) -> dict[str, Any]:
    """The settings that are not as in `default.yaml`."""
    default = validate(merge(_read(CFGS / "default.yaml"), NONE))
    return _unlike(settings.model_dump(mode="json"), default.model_dump(mode="json"))


def forget_dataset(values: dict[str, Any]) -> None:
    """Take out what stood in for a dataset."""
    for name in NONE["dataset"]:
        values.get("dataset", {}).pop(name, None)


def _unlike(values: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        below = default.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _unlike(value, below) or below
        if value != below:
            found[name] = value
    return found


def differences(a: Settings, b: Settings) -> dict[str, tuple[Any, Any]]:
    """The settings by dotted name in which two runs differ, and what each of them has."""
    left, right = (dict(leaves(each.model_dump(mode="json"), "")) for each in (a, b))
    names = dict.fromkeys([*left, *right])
    pairs = {name: (left.get(name), right.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def fields_at(path: Iterable[str]) -> list[str]:
    """Names of the fields of the section at `path`; in an open one, after its rule or name."""
    section: Any = Settings
    for name in path:
        if section is Settings and name in OPEN:
            section = OPEN[name]
        elif isinstance(section, Mapping):
            section = section[name]
        else:
            section = section.model_fields[name].annotation
    return list(section if isinstance(section, Mapping) else section.model_fields)


def known(folder: str) -> list[str]:
    """Names of the YAML files in a folder of `cfgs`."""
    return sorted(path.stem for path in (CFGS / folder).glob("*.yaml"))


def layer(folder: str, name: str) -> dict[str, Any]:
    """What a file says: one in a folder of `cfgs`, or a YAML file anywhere. Raises ConfigError."""
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
