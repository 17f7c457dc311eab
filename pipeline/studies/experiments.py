"""Experiments: settings that vary, as files in `cfgs/experiments` or options of the command line.

    about: description in one line
    profile: official                 # profile that all runs start from
    set: [scores.methods=[abs]]       # overrides that all runs share
    seeds: 5                          # number of random seeds; sigma is over them
    grids:                            # run one after the other, each with all its combinations
      - over: {crops.alpha: [0.1, 0.2], crops.k windows.k: [10, 20]}
        row: "alpha={crops.alpha}"    # name of the row in the paper's table, if it has one
    paper: "4"                        # number of the paper's table
    against: abs                      # the table also compares all methods with this one
    seconds: true                     # the table also shows seconds, of stages and of each method
    demo: {set: [...]}                # fields that differ for the dataset of that name

Several settings in one key, separated by spaces, take the same value.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from pipeline.core.errors import ConfigError
from pipeline.core.layers import known, layer, short
from pipeline.core.section import Section

SEEDED = (
    *("crops.seed", "squares.seed", "augmented.seed"),
    *(
        "methods.wca.seed",
        "methods.bifta-views.seed",
        "methods.tda.seed",
        "methods.boost-adapter.seed",
        "methods.dmn-zs.seed",
        "methods.gda.support.seed",
        "descriptions.waffle.seed",
    ),
)
"""Settings that seed all random draws."""


class Grid(Section):
    """All combinations of the values of some settings."""

    over: dict[str, list[Any]] = Field(default_factory=dict)
    row: str = ""
    """Name of a combination in the paper, with `{setting}` for the value of a setting."""
    names: dict[str, str] = Field(default_factory=dict)
    """Names of values in the paper, where they differ from the values."""

    @field_validator("over")
    @classmethod
    def _with_numbers(cls, over: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {name: list(map(_number, values)) for name, values in over.items()}

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield each combination as values by setting."""
        for values in itertools.product(*self.over.values()):
            yield dict(zip(self.over, values, strict=True))

    def named(self, point: Mapping[str, Any]) -> str:
        """Return the name of a combination in the paper; empty if it has none."""
        row = self.row
        for name, value in point.items():
            shown = int(value) if isinstance(value, bool) else value
            row = row.replace(f"{{{name}}}", self.names.get(str(value), str(shown)))
        return row


def _number(value: Any) -> Any:
    """Return the number that a value such as `1e-5` states; YAML takes it for a text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", value):
        return float(value)
    return value


class Experiment(Section):
    """Profile and overrides that all runs share, and grids of settings to vary."""

    about: str = ""
    profile: str = "official"
    set: list[str] = Field(default_factory=list)
    seeds: int = Field(default=1, ge=1, le=1000)
    grids: list[Grid] = Field(default_factory=lambda: [Grid()])
    paper: str = ""
    against: str = ""
    """Method that the others are compared with, image by image; empty for none."""
    seconds: bool = False
    """True to show the seconds of each stage, and to measure and show those of each method."""

    def changed(
        self,
        overrides: Iterable[str],
        profile: str | None = None,
        grid: Grid | None = None,
        seeds: int | None = None,
    ) -> Experiment:
        """Return the experiment with more overrides, and what is given in place of its own."""
        given = {"profile": profile, "grids": grid and [grid], "seeds": seeds}
        update = {field: value for field, value in given.items() if value}
        return self.model_copy(update={**update, "set": [*self.set, *overrides]})

    def points(self) -> list[Point]:
        """Return all combinations of all grids, each with every seed."""
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
        """Overrides of the run, written as for `--set`."""
        timed = ["runtime.method_seconds=true"] if self.experiment.seconds else []
        overrides = [*timed, *self.experiment.set]
        for names, value in self.values.items():
            overrides += [f"{name}={json.dumps(value)}" for name in names.split()]
        if self.experiment.seeds > 1:
            overrides += [f"{name}={self.seed}" for name in SEEDED]
        return overrides

    @property
    def title(self) -> str:
        """Name of the run in messages, such as `crops.k=20, seed 3`."""
        values = [f"{name}={value}" for name, value in self.values.items()]
        seed = [f"seed {self.seed}"] if self.experiment.seeds > 1 else []
        return ", ".join([*values, *seed]) or "unchanged settings"


def is_experiment(name: str) -> bool:
    """Return whether a name is that of an experiment or its YAML file, not of a stored sweep."""
    return short(name) != name or name in known("experiments")


def load_experiment(name: str, dataset: str) -> Experiment:
    """Load an experiment by its name or YAML file, with its fields for one dataset.

    Raises ConfigError for an unknown name or a wrong field.
    """
    values = layer("experiments", name)
    special = {key: values.pop(key) for key in list(values) if key not in Experiment.model_fields}
    for key, value in special.items():
        if not isinstance(value, dict) or key not in known("datasets"):
            raise ConfigError(
                f"experiment {name}: {key!r} is neither a field "
                f"({', '.join(Experiment.model_fields)}) nor a dataset"
            )
    return validated({**values, **special.get(dataset, {})}, f"experiment {name}")


def validated(values: Mapping[str, Any], name: str) -> Experiment:
    """Validate the fields of an experiment; ConfigError names the first wrong one."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where, message = ".".join(map(str, first["loc"])), first["msg"]
        raise ConfigError(f"{name}: {where}: {message[:1].lower()}{message[1:]}") from None


def grid_of(options: list[str]) -> Grid:
    """Parse options such as `crops.k=5,10,20` into one grid. Raises ConfigError."""
    over = {}
    for option in options:
        name, equals, text = option.partition("=")
        try:
            values = yaml.safe_load(f"[{text}]")
        except (yaml.YAMLError, ValueError, RecursionError):
            values = None
        if not equals or not name.strip() or not values:
            raise ConfigError(f"--over {option!r}: expected section.field=value,value,...")
        over[name] = values
    return Grid(over=over)
