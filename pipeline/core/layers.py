"""Layers of settings, one above the other: YAML files of `cfgs/`, then `section.field=value`.

`default.yaml` < profile < dataset < `--set` < environment and options for paths.

Files are looked for in `cfgs/` of the working folder first, then in those that ship with the
project. Nothing here knows which sections there are.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from pipeline.core.addresses import LOCAL, is_address
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.paths import ENVIRONMENT, INSTALLED, PROJECT, Paths, expand
from pipeline.core.section import flatten

CFGS = PROJECT / "pipeline" / "cfgs" if INSTALLED else PROJECT / "cfgs"
"""The configurations that ship with the project."""
NO_DATASET = {"dataset": {"name": "none", "root": "none"}}
"""Placeholder for the dataset section where no dataset is given."""
SET = "--set"
"""Name of the layer of overrides."""
NO_RESULT = ("runtime.", "paths.", "layout.", "windows.encode")
"""Settings that change where and how work is done, never a result."""
SEVERAL = re.compile(r"\s+(?=[a-z_]+(?:\.[A-Za-z0-9_-]+)+=)")
"""Pattern of the white space between several overrides in one text."""


class Layer(NamedTuple):
    """Settings of one place."""

    name: str
    """Place in messages: `profile official`, `things.yaml`, `--set`."""
    values: dict[str, Any]
    """Nested sections."""


@dataclass(frozen=True)
class Departure:
    """A setting for which a layer above the profile has another value."""

    setting: str
    """Dotted name."""
    layer: str
    """Name of the layer that decides."""
    value: Any
    """Value that holds."""
    profile: str
    """Name of the profile."""
    below: Any
    """Value of the profile, or of the default where the profile has none."""

    def __str__(self) -> str:
        return (
            f"{self.layer}: {self.setting} {plain(self.value)}, "
            f"profile {self.profile} has {plain(self.below)}"
        )


@dataclass(frozen=True)
class Selection:
    """Dataset and profile of a run, and where its settings depart from the profile."""

    dataset: str
    profile: str
    departures: tuple[Departure, ...] = ()

    def __str__(self) -> str:
        changed = [f"{d.setting}={plain(d.value)}" for d in self.departures]
        return ", ".join([f"profile {self.profile}", *changed])

    @property
    def unasked(self) -> list[str]:
        """Departures that the command line does not name, one line each."""
        return [str(each) for each in self.departures if each.layer != SET]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, for manifests and `--json`."""
        return asdict(self)


def layers(
    dataset: str | None,
    profile: str = "official",
    overrides: Iterable[str] = (),
    weights: str | None = None,
) -> list[Layer]:
    """The layers of a run, lowest first.

    The dataset and the profile are names in `cfgs/`, or YAML files; without a dataset: what would
    hold for any. An override is `section.field=value`, the value written as in YAML; one text may
    hold several. `weights` is the folder of weights, whatever the environment says. Raises
    ConfigError.
    """
    of_dataset = dict(NO_DATASET) if dataset is None else layer("datasets", dataset)
    given: dict[str, Any] = {}
    for text in overrides:
        for override in SEVERAL.split(text.strip()):
            given = merge(given, parse_override(override))
    return [
        Layer("default.yaml", read_yaml(CFGS / "default.yaml")),
        Layer(f"profile {short(profile)}", layer("profiles", profile)),
        Layer(f"{short(dataset or 'any dataset')}.yaml", of_dataset),
        Layer(SET, given),
        *_places(weights),
    ]


def layered(
    dataset: str | None,
    profile: str = "official",
    overrides: Iterable[str] = (),
    weights: str | None = None,
) -> dict[str, Any]:
    """Merge `layers` into nested mappings, without validating them. Raises ConfigError."""
    return merged(layers(dataset, profile, overrides, weights))


def merged(stack: Iterable[Layer]) -> dict[str, Any]:
    """Merge layers, lowest first."""
    values: dict[str, Any] = {}
    for each in stack:
        values = merge(values, each.values)
    return values


def origins(stack: Iterable[Layer]) -> dict[str, list[tuple[str, Any]]]:
    """Map the dotted name of every setting to the layers that give it, with values; lowest first.

    A list or a value without further sections hides those of the layers below.
    """
    found: dict[str, list[tuple[str, Any]]] = {}
    for each in stack:
        for name, value in flatten(each.values, ""):
            found.setdefault(name, []).append((each.name, value))
    return found


def selection(dataset: str, profile: str, stack: list[Layer]) -> Selection:
    """Name what was asked for, with the settings that depart from the profile.

    These are all that `--set` changes, and those of the dataset's file that the profile has too.
    Paths and execution are left out, as they change no result.
    """
    _, of_profile, of_dataset, _, *_ = (each.name for each in stack)
    found = []
    for name, given in sorted(origins(stack).items()):
        layer_, value = given[-1]
        fixed = [old for place, old in given if place == of_profile]
        below = fixed or [old for place, old in given if place != SET]
        departs = layer_ == SET or (layer_ == of_dataset and fixed)
        if departs and not name.startswith(NO_RESULT) and [value] != below[-1:]:
            old = below[-1] if below else None
            found.append(Departure(name, layer_, value, short(profile), old))
    return Selection(short(dataset), short(profile), tuple(found))


def short(name: str) -> str:
    """Return the name of a configuration that is given as a name or as a YAML file."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


def plain(value: Any) -> str:
    """Format a value as in YAML, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).split("\n...")[0].strip()


def _places(weights: str | None) -> list[Layer]:
    """Absolute folders and addresses from the environment variables and `--weights-dir`."""
    given = [(name, field, os.environ.get(name)) for name, field in ENVIRONMENT.items()]
    given.append(("--weights-dir", "weights", weights))
    return [
        Layer(name, {"paths": {field: place if is_address(place) else _absolute(place)}})
        for name, field, place in given
        if place
    ]


def _absolute(place: str) -> str:
    return str(expand(place.removeprefix(LOCAL)).absolute())


def paths_of(values: Mapping[str, Any]) -> Paths:
    """The section `paths` of layered settings; ConfigError if it is not valid."""
    try:
        return Paths.model_validate(values.get("paths") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("paths", *first["loc"])))
        raise ConfigError(f"{where}: {first['msg'].lower()}") from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; values of `above` win.

    Of a text set that gets another rule, the file alone stays.
    """
    merged = dict(below)
    if "rule" in below and above.get("rule", below["rule"]) != below["rule"]:
        merged = {name: value for name, value in below.items() if name == "file"}
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
        raise ConfigError(_unknown(folder, name, files))
    return read_yaml(files[name])


def _unknown(folder: str, name: str, files: Iterable[str]) -> str:
    """Say what is wrong with the name of a configuration that is none of `files`."""
    kind, place = folder.removesuffix("s"), Path(name).absolute()
    if "/" not in name and name not in (".", ".."):
        return f"unknown {kind} {name!r}; {did_you_mean(name, files)} (in {own_cfgs() / folder})"
    ask = f"give the name of a {kind} or its YAML file"
    if not place.exists():
        return f"no file or folder at {place}; {ask}"
    images = f", or make one of images: abs init NAME --images {name}"
    return f"{place} is not a {kind}; {ask}{images if folder == 'datasets' else ''}"


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """The content of a YAML file, which many runs of a sweep read; each is to copy it."""
    return yaml.safe_load(text)


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file; ConfigError if it cannot be read or holds anything else."""
    try:
        content = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML") from None
    if not isinstance(content, dict | None):
        raise ConfigError(f"{path}: expected sections, found {type(content).__name__}")
    return content or {}
