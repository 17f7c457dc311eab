"""`abs figure`: draw a figure for print from what is stored."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.paths import home
from pipeline.figures.make import Wanted, make_figure
from pipeline.figures.style import FORMATS, drawing, save
from pipeline.options import (
    DatasetOption,
    ExperimentProfileOption,
    ImagesOption,
    JsonOption,
    SetOption,
    WeightsOption,
    print_json,
)

FileFormat = StrEnum("FileFormat", {name: name for name in FORMATS})  # type: ignore[misc]


def command(
    dataset: DatasetOption,
    name: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="fig4 (parameters), fig5 or fig7 (attention and crops), fig6 (several classes in "
            "view), crops (how they are made), or the lines of another experiment or stored sweep.",
        ),
    ],
    images: ImagesOption = None,
    count: Annotated[
        int, typer.Option(min=1, max=60, help="Number of images, where none is chosen.")
    ] = 3,
    method: Annotated[
        str, typer.Option("--method", "-m", help="Method whose errors fig6 looks through.")
    ] = "abs",
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Files without suffix. Default: figures/DATASET-FIGURE."),
    ] = None,
    formats: Annotated[
        list[FileFormat] | None,
        typer.Option("--format", help="File format; may be repeated. Default: all of them."),
    ] = None,
    profile: ExperimentProfileOption = None,
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a figure for print from what is stored: PDF, SVG and PNG.

    Needs the extra `report`. Only stored results are read; `abs sweep` and `abs run` compute the
    missing ones. Colours can be told apart by colour-blind readers.
    """
    wanted = Wanted(
        name, dataset, images or (), count, method, profile, overrides or (), weights_dir
    )
    with drawing():
        made = make_figure(wanted)
        short = Path(name).stem
        path = out or home() / "figures" / f"{made.source['dataset']}-{short}"
        chosen = [each.value for each in formats or ()] or FORMATS
        written = save(made.figure, path, chosen, made.title, made.source)
    if as_json:
        print_json({"files": [str(each) for each in written], "source": made.source})
    else:
        print("\n".join(map(str, written)))
