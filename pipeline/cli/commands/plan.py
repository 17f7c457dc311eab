"""`abs plan`."""

from __future__ import annotations

from pipeline.cli.store_tables import print_plan
from pipeline.inspect.status import plan as plan_of
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
    """Show what a run would compute, write and hold in memory."""
    chosen = Run.of(dataset, profile, overrides, weights_dir)
    planned = plan_of(chosen.store, chosen.stages)
    print_json(planned) if as_json else print_plan(planned)
