"""`abs list`: list what can be named in commands and settings, and what is stored."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.listings import ROWS
from pipeline.cli.tables import print_rows
from pipeline.options import (
    AnyDatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)


class Kind(StrEnum):
    """Names of `ROWS`, which can be listed."""

    datasets = "datasets"
    methods = "methods"
    profiles = "profiles"
    experiments = "experiments"
    models = "models"
    runs = "runs"
    sweeps = "sweeps"


def command(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    dataset: AnyDatasetOption = None,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List datasets, methods, profiles, experiments, models, runs or sweeps.

    Of runs and sweeps those of one dataset, or of all. Of models those that can be used, and
    where their weights are on this machine.
    """
    rows = ROWS[kind.value](dataset, profile, overrides or (), weights_dir)
    print_json(rows) if as_json else print_rows(rows)
