"""`abs check-settle`: compare images that settle early with all of their crops."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from pipeline.cli.study_tables import print_settling
from pipeline.core.errors import ConfigError
from pipeline.engine.inline import Inline
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
    distributed,
    print_json,
)
from pipeline.run import Run
from pipeline.studies.settling import check_settling, on_sample, refuse_without_effect


@distributed
def command(
    context: typer.Context,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    p: Annotated[
        float, typer.Option("--p", help="Value of scores.settle, if --set does not give it.")
    ] = 0.001,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Compare on this many images, evenly from the classes."),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Any = None,
) -> int:
    """Compare decisions of images that settle early with those of all their crops.

    Runs both: all crops are embedded first, and the settled run takes them from there. Prints the
    images whose class is the same, top-1 of both, and crops per image, with intervals. Exit code 1
    if more decisions differ than `scores.settle` promises (binomial test at 1 %).

    A sample has artifacts of its own, in one process, and runs before a full run is paid for.
    """
    if sample and not isinstance(engine, Inline | None):
        raise ConfigError("--sample: runs in one process; leave out --workers and --scheduler")
    given, plan = list(overrides or ()), on_sample(sample) if sample else None
    settled = Run.of(dataset, profile, [f"scores.settle={p}", *given], weights_dir, plan)
    refuse_without_effect(settled)
    whole = Run.of(dataset, profile, [*given, "scores.settle=null"], weights_dir, plan)
    for run in (whole, settled):
        run.execute(run.stages, [], quiet or as_json, engine=engine)
    found = check_settling(settled, whole)
    print_json([asdict(each) for each in found]) if as_json else print_settling(found)
    return 0 if all(each.holds for each in found) else 1
