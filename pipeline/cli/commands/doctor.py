"""`abs doctor`: check the images, classes and texts of a dataset."""

from __future__ import annotations

from pipeline.cli.store_tables import print_doctor_report
from pipeline.first_steps.doctor import examine, only_index
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.run import Run


def command(
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Check a dataset: images, classes, texts. Exit code 0 if it can be run.

    The images are read and indexed; class names and text files are compared with each other.
    """
    run = Run.of(dataset, profile, overrides, weights_dir, plan=only_index)
    report = examine(run, quiet or as_json)
    print_json(report.as_dict()) if as_json else print_doctor_report(report.as_dict())
    return 0 if report.usable else 1
