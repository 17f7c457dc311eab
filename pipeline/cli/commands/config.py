"""`abs config`: print the settings of a run."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from pipeline import settings
from pipeline.cli.store_tables import print_differences
from pipeline.options import (
    AnyDatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)


def command(
    dataset: AnyDatasetOption = None,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    resolved: Annotated[
        bool, typer.Option(help="Print all settings, not only those that differ.")
    ] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Print the settings that differ between two profiles."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the settings of a run: those that differ from cfgs/default.yaml, or all.

    With `--diff A B`: those that differ between two profiles.
    """
    if diff:
        runs = [settings.load(dataset, name, overrides or (), weights_dir) for name in diff]
        rows = settings.differences(*runs)
        print_json(rows) if as_json else print_differences(rows, *diff)
        return
    loaded = settings.load(dataset, profile, overrides or (), weights_dir)
    values = loaded.model_dump(mode="json") if resolved else settings.changed(loaded)
    if dataset is None:
        settings.forget_dataset(values)
    print_json(values) if as_json else print(yaml.safe_dump(values, sort_keys=False), end="")
