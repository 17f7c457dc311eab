"""`abs path`: print the folder of a stage's finished artifact."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.options import DatasetOption, ProfileOption, SetOption, WeightsOption
from pipeline.run import Run

StageArgument = Annotated[
    str, typer.Argument(help="Name of a stage, such as scores or embeddings-raw.", metavar="STAGE")
]


def command(
    stage: StageArgument,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
) -> None:
    """Print the folder of a stage's finished artifact, for scripts.

    Exit code 1 if the stage is not finished.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    for named in run.named(stage):
        print(run.store.open(named).path)
