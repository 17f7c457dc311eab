"""`abs plan`: show what a run would compute, write and hold in memory."""

from __future__ import annotations

from pipeline.cli.store_tables import print_plan
from pipeline.core.errors import together
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
from pipeline.stage import impossible


def command(
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would compute, write and hold in memory.

    Nothing is computed. Values that depend on a stage that has not run are shown as `?`. Settings
    that the model cannot do are an error.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    if wrong := impossible(run.stages):
        raise together(wrong)
    planned = plan_of(run.store, run.stages)
    print_json(planned) if as_json else print_plan(planned)
