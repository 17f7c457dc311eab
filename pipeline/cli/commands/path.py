"""`abs path`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.options import DatasetOption, ProfileOption, SetOption, WeightsOption
from pipeline.run import Run

StageArgument = Annotated[
    str, typer.Argument(help="A stage, such as scores or embeddings-raw.", metavar="STAGE")
]


def command(
    stage: StageArgument,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
) -> None:
    """Print the folder of a stage's finished artifact, for scripts."""
    chosen = Run.of(dataset, profile, overrides, weights_dir)
    for found in chosen.named(stage):
        print(chosen.store.open(found).path)
