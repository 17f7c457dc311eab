"""`abs path`: print the folder of a stage's finished artifact."""

from __future__ import annotations

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
    """Print the folder of a stage's finished artifact, for scripts.

    Exit code 1 if the stage is not finished.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    paths = {named.name: str(run.store.open(named).path) for named in run.named(stage)}
    print_json(paths) if as_json else print("\n".join(paths.values()))
