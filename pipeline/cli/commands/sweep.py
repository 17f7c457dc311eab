"""`abs sweep`: run every setting of an experiment, and print a table of the results."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.study_tables import (
    Format,
    FormatOption,
    print_failed,
    print_sweep,
    print_sweep_table,
    rows_of,
)
from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter
from pipeline.options import (
    DatasetOption,
    DryRunOption,
    ExperimentProfileOption,
    JsonOption,
    QuietOption,
    SetOption,
    WeightsOption,
    distributed,
    print_json,
)
from pipeline.studies.experiments import grid_of
from pipeline.studies.sweeps import Sweep


@distributed
def command(
    context: typer.Context,
    dataset: DatasetOption,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="Experiment: a name in cfgs/experiments, or a YAML file.",
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=A,B,...", help="Setting to vary; if repeated, every combination."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Number of random seeds; sigma is the deviation over them."),
    ] = None,
    profile: ExperimentProfileOption = None,
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    dry_run: DryRunOption = False,
    style: FormatOption = Format.plain,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Any = None,
) -> int:
    """Run every setting of an experiment, and print a table of the results.

    Artifacts that several settings share are computed once. The table is stored under a name that
    follows from its content (`abs list sweeps`). Exit code 1 if a setting failed; the others are
    run all the same.
    """
    if not name and not over:
        raise ConfigError("sweep: name an experiment, or give --over FIELD=A,B,...")
    sweep = Sweep.load(
        name,
        dataset,
        overrides or (),
        profile=profile,
        grid=grid_of(over) if over else None,
        seeds=seeds,
        weights_dir=weights_dir,
    )
    planned = sweep.plan()
    if dry_run:
        print_json(planned) if as_json else print_sweep(planned)
        return 0
    if not (quiet or as_json or style != Format.plain):
        print_sweep(planned)
    reporter = Reporter(quiet or as_json)
    sweep.execute(reporter, engine)
    path = sweep.write()
    if as_json:
        print_json({**_results(sweep), "path": str(path), "plan": planned})
    else:
        print_sweep_table(sweep.table(), sweep.store.dataset, sweep.selection, style.value)
        print_failed(sweep.failures())
        reporter.say(f"{path}\nPrint it again: abs table {sweep.stored.name} {sweep.dataset}")
    return 1 if sweep.failed else 0


def _results(sweep: Sweep) -> dict[str, Any]:
    """Return the results of a sweep for programs: its name and settings, the table, failures."""
    return {
        "name": sweep.stored.name,
        "settings": sweep.selection,
        "table": rows_of(sweep.table()),
        "failed": sweep.failures(),
    }
