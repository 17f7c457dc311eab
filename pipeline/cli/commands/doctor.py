"""`abs doctor`: check the images, classes and texts of a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_doctor_report
from pipeline.doctor import examine, only_index
from pipeline.options import JsonOption, ProfileOption, QuietOption, SetOption, print_json
from pipeline.run import Run


def command(
    name: Annotated[str, typer.Argument(help="Dataset: a name in cfgs/datasets, or a YAML file.")],
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Check a dataset: images, classes, texts. Exit code 0 if it can be run.

    The images are read and indexed; class names and text files are compared with each other.
    """
    report = examine(Run.of(name, profile, overrides, plan=only_index), quiet or as_json)
    print_json(report.as_dict()) if as_json else print_doctor_report(report.as_dict())
    return 0 if report.usable else 1
