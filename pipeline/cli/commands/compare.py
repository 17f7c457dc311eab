"""`abs compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.study_tables import print_comparison
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.run import Run
from pipeline.studies.compare import compared


def command(
    a: Annotated[
        str, typer.Argument(help="METHOD, or METHOD@section.field=value for other settings.")
    ],
    b: Annotated[str, typer.Argument(help="The same.")],
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two methods or settings, image by image: who is right where the other is not."""

    def run(more: list[str]) -> Run:
        return Run.of(dataset, profile, [*(overrides or ()), *more], weights_dir)

    found = asdict(compared(run, a, b))
    print_json(found) if as_json else print_comparison(found, a, b)
