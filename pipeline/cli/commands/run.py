"""`abs run`: compute all missing stages, then print the table of results."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.store_tables import NOTHING_TO_DO, print_plan
from pipeline.cli.tables import print_results, print_skipped, print_unscored_methods, results
from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter
from pipeline.inspect.status import plan as plan_of
from pipeline.options import (
    DatasetOption,
    DryRunOption,
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
    to: Annotated[str, typer.Option(help="Last stage to compute.")] = "metrics",
    force: Annotated[
        list[str] | None, typer.Option(help="Stage to compute again; may be repeated.")
    ] = None,
    dry_run: DryRunOption = False,
    strict_code: StrictOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Any = None,
) -> None:
    """Compute all missing stages, then print the table of results.

    Stages run in the order in which they read each other, up to `--to`. Finished units are kept;
    after an interruption, run the same command again to compute the others.
    """
    with Reporter(quiet or as_json).busy("looking at settings, files and models"):
        run = Run.of(dataset, profile, overrides, weights_dir)
    stages = needed(run.named(to), run.stages)
    forced = [stage for name in force or [] for stage in run.named(name)]
    if unneeded := [stage.name for stage in forced if stage not in stages]:
        raise ConfigError(
            f"--force {unneeded[0]}: {to} does not need this stage under these settings"
        )
    if dry_run:
        planned = plan_of(run.store, stages, forced)
        print_json(planned) if as_json else print_plan(planned)
        return
    outcomes = run.execute(stages, forced, quiet or as_json, strict_code, engine)
    rows = results(run.store, stages[-1])
    if as_json:
        chosen = run.selection.as_dict() if run.selection else None
        stages_done = [outcome.as_dict() for outcome in outcomes]
        print_json({"selection": chosen, "stages": stages_done, "results": rows})
        return
    if all(outcome.state == "cached" for outcome in outcomes):
        print(NOTHING_TO_DO)
    if rows:
        print_results(rows, run)
        print_skipped(run.store, run.named("index")[0])
        print_unscored_methods(run.settings)
