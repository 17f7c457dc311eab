"""`abs config`."""

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
    resolved: Annotated[bool, typer.Option(help="All settings, not only what is changed.")] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two profiles: only what differs between them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the settings of a run: those that differ from cfgs/default.yaml, or all."""
    if diff:
        runs = [settings.load(dataset, name, overrides or (), weights_dir) for name in diff]
        found = settings.differences(*runs)
        print_json(found) if as_json else print_differences(found, *diff)
        return
    loaded = settings.load(dataset, profile, overrides or (), weights_dir)
    values = loaded.model_dump(mode="json") if resolved else settings.changed(loaded)
    if dataset is None:
        settings.forget_dataset(values)
    print_json(values) if as_json else print(yaml.safe_dump(values, sort_keys=False), end="")
