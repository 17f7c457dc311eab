"""`abs check`: compare the accuracy of ABS with the paper's."""

from __future__ import annotations

from dataclasses import asdict

from pipeline.cli.study_tables import print_check
from pipeline.options import DatasetOption, JsonOption, SetOption, WeightsOption, print_json
from pipeline.run import Run
from pipeline.settings import load
from pipeline.studies import check as checking


def command(
    dataset: DatasetOption,
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compare the accuracy of ABS with the paper's, and list what can explain a gap.

    Reads the finished metrics of the official profile with N = 60. Exit code 0 if the difference is
    at most the paper's sigma, or 0.1 points where the paper states none.
    """
    base = [f"scores.n={checking.PAPER['scores.n']}"]
    run = Run.of(dataset, "official", [*base, *(overrides or ())], weights_dir)
    result = checking.check(run, load(dataset, "official", base, weights_dir))
    print_json(asdict(result)) if as_json else print_check(asdict(result))
    return 0 if result.within else 1
