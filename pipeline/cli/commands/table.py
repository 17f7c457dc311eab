"""`abs table`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.study_tables import print_beside
from pipeline.options import DatasetOption, SetOption, WeightsOption
from pipeline.studies import experiments
from pipeline.studies.costs import with_seconds
from pipeline.studies.paper import beside
from pipeline.studies.sweeps import Sweep


class Format(StrEnum):
    """Of a table."""

    plain = "plain"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def command(
    name: Annotated[str, typer.Argument(help="A name in cfgs/experiments, such as table4.")],
    dataset: DatasetOption = "demo",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    style: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.plain,
) -> None:
    """Print an experiment's results beside the paper's; `abs sweep` makes what is missing."""
    experiment = experiments.load_experiment(name, dataset)
    changed = experiment.model_copy(update={"set": [*experiment.set, *(overrides or ())]})
    chosen = Sweep.of(name, dataset, changed, weights_dir)
    found = beside(chosen)
    if experiment.seconds:
        found = with_seconds(found, chosen)
    if found["ours"].isna().all():
        print(f"Nothing of ours is there yet; make it: abs sweep {name} --dataset {dataset}")
    print_beside(found, style.value)
