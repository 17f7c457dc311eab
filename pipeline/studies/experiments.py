"""Experiments: settings that vary, as files in `cfgs/experiments` or options of the command line.

    about: what it is
    profile: official                 # the base
    set: [scores.methods=[abs]]       # settings that all runs share
    seeds: 5                          # draws of everything random; sigma is over these
    grids:                            # one after the other; of each every combination
      - over: {crops.alpha: [0.1, 0.2], crops.k windows.k: [10, 20]}
        row: "alpha={crops.alpha}"    # what the paper's row is called, if it has one
    paper: "4"                        # the table of the paper
    seconds: true                     # the table also says what each stage took
    demo: {set: [...]}                # what is otherwise for the dataset of that name

Several fields in one name take the same value.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import Field, ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.layers import known, layer
from pipeline.core.section import Section

SEEDED = ("crops.seed", "squares.seed", "methods.wca.seed", "descriptions.waffle.seed")
"""The settings that every draw depends on."""


class Grid(Section):
    """Every combination of some settings."""

    over: dict[str, list[Any]] = Field(default_factory=dict)
    row: str = ""
    """What the paper calls a combination: a format of its fields."""
    names: dict[str, str] = Field(default_factory=dict)
    """The paper's names of values, where they are others."""

    def points(self) -> Iterator[dict[str, Any]]:
        """Each combination."""
        for values in itertools.product(*self.over.values()):
            yield dict(zip(self.over, values, strict=True))

    def named(self, point: Mapping[str, Any]) -> str:
        """The paper's row of a combination; empty if it has none."""
        told = self.row
        for name, value in point.items():
            shown = int(value) if isinstance(value, bool) else value
            told = told.replace(f"{{{name}}}", self.names.get(str(value), str(shown)))
        return told


class Experiment(Section):
    """A base, and the grids around it."""

    about: str = ""
    profile: str = "official"
    set: list[str] = Field(default_factory=list)
    seeds: int = Field(default=1, ge=1, le=1000)
    grids: list[Grid] = Field(default_factory=lambda: [Grid()])
    paper: str = ""
    seconds: bool = False
    """Whether its table says what each stage took."""

    def points(self) -> list[Point]:
        """Every setting, each with every seed."""
        return [
            Point(self, grid, values, seed)
            for grid in self.grids
            for values in grid.points()
            for seed in range(self.seeds)
        ]


@dataclass(frozen=True)
class Point:
    """One run of an experiment."""

    experiment: Experiment
    grid: Grid
    values: dict[str, Any] = field(hash=False)
    seed: int

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        found = list(self.experiment.set)
        for names, value in self.values.items():
            found += [f"{name}={json.dumps(value)}" for name in names.split()]
        if self.experiment.seeds > 1:
            found += [f"{name}={self.seed}" for name in SEEDED]
        return found

    @property
    def title(self) -> str:
        """`crops.k=20, seed 3`"""
        told = [f"{name}={value}" for name, value in self.values.items()]
        seed = [f"seed {self.seed}"] if self.experiment.seeds > 1 else []
        return ", ".join([*told, *seed]) or "as it is"


def load_experiment(name: str, dataset: str) -> Experiment:
    """The experiment of a name, or in a YAML file, as it is for a dataset. Raises ConfigError."""
    values = layer("experiments", name)
    special = {key: values.pop(key) for key in list(values) if key not in Experiment.model_fields}
    for key, value in special.items():
        if not isinstance(value, dict) or key not in known("datasets"):
            raise ConfigError(
                f"experiment {name}: {key!r} is neither a field "
                f"({', '.join(Experiment.model_fields)}) nor a dataset"
            )
    return validated({**values, **special.get(dataset, {})}, f"experiment {name}")


def validated(values: Mapping[str, Any], what: str) -> Experiment:
    """`values` as an experiment; ConfigError names the first that is wrong."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where, message = ".".join(map(str, first["loc"])), first["msg"]
        raise ConfigError(f"{what}: {where}: {message[:1].lower()}{message[1:]}") from None


def grid_of(options: list[str]) -> Grid:
    """`crops.k=5,10,20` and so on as one grid. Raises ConfigError."""
    over = {}
    for option in options:
        name, equals, text = option.partition("=")
        try:
            values = yaml.safe_load(f"[{text}]")
        except (yaml.YAMLError, ValueError, RecursionError):
            values = None
        if not equals or not name.strip() or not values:
            raise ConfigError(f"--over {option!r}: write section.field=value,value,...")
        over[name] = values
    return Grid(over=over)
