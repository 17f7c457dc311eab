"""`abs table`: print an experiment's results beside the paper's, or a stored sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.stores import stores_of
from pipeline.cli.study_tables import (
    Format,
    FormatOption,
    print_beside_paper,
    print_failed,
    print_sweep_table,
    rows_of,
)
from pipeline.options import (
    DatasetOption,
    ExperimentProfileOption,
    JsonOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.studies.costs import with_seconds
from pipeline.studies.experiments import is_experiment
from pipeline.studies.paper import beside_paper
from pipeline.studies.stored import stored_sweep
from pipeline.studies.sweeps import Sweep


def command(
    dataset: DatasetOption,
    name: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT|SWEEP",
            help="Experiment: a name in cfgs/experiments, such as table4, or a YAML file. "
            "Or a stored sweep: its name, or the beginning of it (abs list sweeps).",
        ),
    ],
    profile: ExperimentProfileOption = None,
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    style: FormatOption = Format.plain,
    as_json: JsonOption = False,
) -> None:
    """Print an experiment's results beside the paper's, or the table of a stored sweep.

    Only stored results are read; `abs sweep` computes the missing ones.
    """
    if not is_experiment(name):
        (store,) = stores_of(dataset, profile or "official", overrides or (), weights_dir)
        sweep = stored_sweep(store, name)
        rows, chosen = sweep.table(), sweep.selection
        if as_json:
            print_json({"name": sweep.name, "settings": chosen, "table": rows_of(rows)})
        else:
            print_sweep_table(rows, store.dataset, chosen, style.value)
        return
    given = overrides or ()
    planned = Sweep.load(name, dataset, given, profile=profile, weights_dir=weights_dir)
    table = beside_paper(planned)
    if planned.experiment.seconds:
        table = with_seconds(table, planned)
    if as_json:
        print_json({"name": name, "settings": planned.selection, "table": rows_of(table)})
        return
    if table["ours"].isna().all():
        print(f"No results of this project yet; run: abs sweep {name} {dataset}")
    print_beside_paper(table, style.value, f"{planned.store.dataset}: {planned.selection}")
    print_failed(planned.failures())
