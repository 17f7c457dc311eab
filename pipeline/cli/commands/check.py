"""`abs check`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.study_tables import print_check
from pipeline.options import JsonOption, SetOption, WeightsOption, print_json
from pipeline.run import Run
from pipeline.settings import load
from pipeline.studies import check as checking


def command(
    dataset: Annotated[str, typer.Argument(help="A dataset of the paper, such as imagenet.")],
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compare our accuracy of ABS with the paper's, and list what can explain a gap."""
    base = [f"scores.n={checking.PAPER['scores.n']}"]
    run = Run.of(dataset, "official", [*base, *(overrides or ())], weights_dir)
    found = checking.check(run, load(dataset, "official", base, weights_dir))
    print_json(asdict(found)) if as_json else print_check(asdict(found))
    return 0 if found.within else 1
