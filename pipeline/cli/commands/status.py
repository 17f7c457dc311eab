"""`abs status`."""

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
    """Show each stage's state, units, size and age, and who is at it."""
    chosen = Run.of(dataset, profile, overrides, weights_dir)
    rows = states(chosen.store, chosen.stages)
    print_json(rows) if as_json else print_status(rows)
