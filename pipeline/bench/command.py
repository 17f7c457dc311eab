"""Command line of `abs bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.bench.small import IMAGES
from pipeline.bench.stages import main
from pipeline.core.layers import layered, paths_of
from pipeline.core.paths import expand


def command(
    images: Annotated[
        str | None, typer.Option(help="Folder of photographs (default: the demo's images).")
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Number of images to process.")] = 2,
    pairs: Annotated[int, typer.Option(min=1, help="Number of timings of both sides.")] = 5,
) -> None:
    """Measure this machine: time every stage against a plain implementation."""
    main(
        expand(images) if images else IMAGES, number, pairs, paths_of(layered(None)).store / "bench"
    )
