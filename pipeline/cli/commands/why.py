"""`abs why`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_reasons
from pipeline.inspect.why import why as reasons_of
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)
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
    as_json: JsonOption = False,
) -> None:
    """Say why a stage has to be computed: what differs from what is stored."""
    chosen = Run.of(dataset, profile, overrides, weights_dir)
    answers = [reasons_of(chosen.store, each) for each in chosen.named(stage)]
    print_json(answers) if as_json else print_reasons(answers)
