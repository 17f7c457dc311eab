"""`abs sweep`: run every setting of an experiment, and print a table of the results."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.study_tables import print_failed, print_sweep, print_table
from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter
from pipeline.options import (
    DatasetOption,
    JsonOption,
    QuietOption,
    SetOption,
    WeightsOption,
    distributed,
    print_json,
)
from pipeline.studies import experiments
from pipeline.studies.sweeps import Sweep


@distributed
def command(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Experiment: a name in cfgs/experiments, or a YAML file.")
    ] = None,
    dataset: DatasetOption = "demo",
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
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="Profile, in place of the experiment's own."),
    ] = None,
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and compute nothing.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Any = None,
) -> int:
    """Run every setting of an experiment, and print a table of the results.

    Artifacts that several settings share are computed once. Exit code 1 if a setting failed; the
    others are run all the same.
    """
    if not name and not over:
        raise ConfigError("sweep: name an experiment, or give --over FIELD=A,B,...")
    if name:
        experiment = experiments.load_experiment(name, dataset)
        title = name.rsplit("/", 1)[-1].removesuffix(".yaml")
    else:
        experiment, title = experiments.Experiment(), "sweep"
    update: dict[str, object] = {"set": [*experiment.set, *(overrides or ())]}
    update |= {"grids": [experiments.grid_of(over)]} if over else {}
    update |= {"seeds": seeds} if seeds else {}
    update |= {"profile": profile} if profile else {}
    sweep = Sweep.of(title, dataset, experiment.model_copy(update=update), weights_dir)
    planned = sweep.plan()
    if dry_run:
        print_json(planned) if as_json else print_sweep(planned)
        return 0
    if not (quiet or as_json):
        print_sweep(planned)
    sweep.execute(Reporter(quiet or as_json), engine)
    table = sweep.table()
    if as_json:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        print_json({"plan": planned, "table": rows, "failed": sweep.failures()})
    else:
        print_table(table, sweep.write())
        print_failed(sweep.failures())
    return 1 if sweep.failed else 0
