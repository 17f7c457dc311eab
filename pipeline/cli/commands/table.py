"""`abs table`: print an experiment's results beside the paper's."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.study_tables import print_beside_paper
from pipeline.options import DatasetOption, SetOption, WeightsOption
from pipeline.studies import experiments
from pipeline.studies.costs import with_seconds
from pipeline.studies.paper import beside_paper
from pipeline.studies.sweeps import Sweep


class Format(StrEnum):
    """Output format of a table."""

    plain = "plain"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def command(
    name: Annotated[
        str,
        typer.Argument(
            help="Experiment: a name in cfgs/experiments, such as table4, or a YAML file."
        ),
    ],
    dataset: DatasetOption = "demo",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    style: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.plain,
) -> None:
    """Print an experiment's results beside the paper's.

    Only stored results are read; `abs sweep` computes the missing ones.
    """
    experiment = experiments.load_experiment(name, dataset)
    overridden = experiment.model_copy(update={"set": [*experiment.set, *(overrides or ())]})
    sweep = Sweep.of(name, dataset, overridden, weights_dir)
    table = beside_paper(sweep)
    if experiment.seconds:
        table = with_seconds(table, sweep)
    if table["ours"].isna().all():
        print(f"No results of this project yet; run: abs sweep {name} --dataset {dataset}")
    print_beside_paper(table, style.value)
