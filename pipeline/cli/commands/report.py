"""`abs report`: write the results of a run, and its crops, as pages to open in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.paths import home
from pipeline.core.progress import Reporter
from pipeline.options import (
    DatasetOption,
    ImagesOption,
    JsonOption,
    QuietOption,
    SetOption,
    StoredProfileOption,
    StoreOption,
    print_json,
)
from pipeline.report.choice import Choice
from pipeline.report.stored import find_run
from pipeline.report.write import check_folder, check_packages, write_report


def command(
    dataset: DatasetOption,
    profile: StoredProfileOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder to write. Default: reports/DATASET."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method whose crops are shown. Default: abs.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Method that it is compared with. Default: cupl.")
    ] = None,
    images: ImagesOption = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Show images of this class; may be repeated."),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Show only errors of the method.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=500, help="Images of each group.")] = 12,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the results of a run, and its crops, as pages to open in a browser.

    Reads a finished run from the store, and changes nothing there. The pages need no server and no
    network. They show the most confident errors of the method, the images that it helped and harmed
    most, and a random sample of all classes; or the images that options choose.
    """
    # Read when Arrow is loaded: its own pool would keep what hundreds of small tables took.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    check_packages()
    run = find_run(dataset, profile, overrides or (), store)
    folder = (out or home() / "reports" / run.dataset).absolute()
    check_folder(folder)
    reporter = Reporter(quiet)
    if run.nearest:
        reporter.say(run.nearest)
    choice = Choice(images or (), classes or (), errors, count)
    page = write_report(run, folder, choice, (method, against), reporter.say)
    print_json({"page": str(page)}) if as_json else print(page)
