"""`abs run`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.store_tables import print_plan
from pipeline.cli.tables import print_left_out, print_results, print_skipped, results
from pipeline.core.errors import ConfigError
from pipeline.inspect.status import plan as plan_of
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    StrictOption,
    WeightsOption,
    distributed,
    print_json,
)
from pipeline.run import Run
from pipeline.stage import needed


@distributed
def command(
    context: typer.Context,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    to: Annotated[str, typer.Option(help="The last stage to make.")] = "metrics",
    force: Annotated[list[str] | None, typer.Option(help="A stage to compute again.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    strict_code: StrictOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Any = None,
) -> None:
    """Make whatever is missing, then print the table of results."""
    chosen = Run.of(dataset, profile, overrides, weights_dir)
    stages = needed(chosen.named(to), chosen.stages)
    forced = [stage for name in force or [] for stage in chosen.named(name)]
    if unneeded := [stage.name for stage in forced if stage not in stages]:
        raise ConfigError(f"--force {unneeded[0]}: not needed for {to} under these settings")
    if dry_run:
        planned = plan_of(chosen.store, stages, forced)
        print_json(planned) if as_json else print_plan(planned)
        return
    outcomes = chosen.execute(stages, forced, quiet or as_json, strict_code, engine)
    rows = results(chosen.store, stages[-1])
    if as_json:
        print_json({"stages": [o.as_dict() for o in outcomes], "results": rows})
        return
    if all(outcome.state == "cached" for outcome in outcomes):
        print("Nothing to do: every stage is finished.")
    if rows:
        print_results(rows, chosen.store)
        print_skipped(chosen.store, chosen.named("index")[0])
        print_left_out(chosen.settings)
