"""`abs compare`: compare two methods or settings image by image."""

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
from pipeline.studies.compare import compare_methods


def command(
    a: Annotated[
        str, typer.Argument(help="METHOD, or METHOD@section.field=value for another setting.")
    ],
    b: Annotated[str, typer.Argument(help="Second method, written like the first.")],
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two methods or settings image by image, with McNemar's test.

    Counts the images that only one of the two classifies correctly, and gives the difference in
    accuracy with its interval. Both must have been scored on the same images.
    """

    def run_of(further: list[str]) -> Run:
        return Run.of(dataset, profile, [*(overrides or ()), *further], weights_dir)

    comparison = asdict(compare_methods(run_of, a, b))
    print_json(comparison) if as_json else print_comparison(comparison, a, b)
