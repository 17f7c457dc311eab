"""`abs status`: show the state of each stage."""

from __future__ import annotations

from pipeline.cli.store_tables import print_status
from pipeline.inspect.status import states
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.run import Run


def command(
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the state, units, size and age of each stage, and which processes work on it.

    Nothing is computed. A stage is `done`, `missing`, or `partial` or `damaged` with the number of
    its finished units. Failed units and code drift are named as well.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    rows = states(run.store, run.stages)
    print_json(rows) if as_json else print_status(rows)
