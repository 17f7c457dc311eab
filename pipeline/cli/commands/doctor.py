"""`abs doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_examination
from pipeline.doctor import examine, only_index
from pipeline.options import JsonOption, ProfileOption, QuietOption, SetOption, print_json
from pipeline.run import Run


def command(
    name: Annotated[str, typer.Argument(help="A name in cfgs/datasets, or a YAML file.")],
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Say what of a dataset is there: images, classes, texts. Exit code 0 if it can be run."""
    found = examine(Run.of(name, profile, overrides, plan=only_index), quiet or as_json)
    print_json(found.as_dict()) if as_json else print_examination(found.as_dict())
    return 0 if found.usable else 1
