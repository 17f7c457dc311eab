"""Command line of `abs bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.bench.main import Part, main
from pipeline.bench.small import IMAGES
from pipeline.core.layers import layered, paths_of
from pipeline.core.paths import expand


def command(
    images: Annotated[
        str | None, typer.Option(help="Folder of photographs (default: the demo's images).")
    ] = None,
    number: Annotated[int, typer.Option(min=2, help="Number of images to process.")] = 2,
    pairs: Annotated[int, typer.Option(min=1, help="Number of timings of both sides.")] = 5,
    only: Annotated[
        list[Part] | None, typer.Option(help="Comparisons to run; may be repeated. Default: all.")
    ] = None,
    build: Annotated[
        str | None, typer.Option(help="Checkout of another build, to compare raw crops with.")
    ] = None,
) -> None:
    """Measure this machine: time every stage against a plain implementation."""
    main(
        images=expand(images) if images else IMAGES,
        number=number,
        pairs=pairs,
        out=paths_of(layered(None)).store / "bench",
        parts=list(Part) if only is None else only,
        other=expand(build) if build else None,
    )
