"""`abs why`: explain why a stage has to be computed."""

from __future__ import annotations

from pipeline.cli.store_tables import print_reasons
from pipeline.inspect.why import why as reasons_of
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    StageArgument,
    WeightsOption,
    print_json,
)
from pipeline.run import Run


def command(
    stage: StageArgument,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why a stage has to be computed: what differs from the stored artifacts.

    For each stage of that name: the nearest stored artifact and the settings, inputs or files that
    differ from it.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    answers = [reasons_of(run.store, named) for named in run.named(stage)]
    print_json(answers) if as_json else print_reasons(answers)
