"""`abs config`: print the settings of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline import settings
from pipeline.cli.settings_tables import layer_rows, print_differences, print_layers, print_settings
from pipeline.core.layers import layers, origins
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
    by_layer: Annotated[
        bool, typer.Option("--layers", help="Print every setting given, with its value by layer.")
    ] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Print the settings that differ between two profiles."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the settings of a run: those that differ from cfgs/default.yaml, or all.

    A comment behind every value names the layer that it comes from, and the value of the profile
    if a higher layer has another. The output is a valid configuration. With `--layers`: every
    setting that a layer gives, and its value in each, for `--json` too. With `--diff A B`: the
    settings that differ between two profiles.
    """
    if diff:
        runs = [settings.load(dataset, name, overrides or (), weights_dir) for name in diff]
        rows = settings.differences(*runs)
        print_json(rows) if as_json else print_differences(rows, *diff)
        return
    stack = layers(dataset, profile, overrides or (), weights_dir)
    loaded = settings.of_layers(stack)
    values = loaded.model_dump(mode="json") if resolved else settings.changed(loaded)
    if by_layer:
        by_setting = layer_rows(origins(stack))
        print_json(by_setting) if as_json else print_layers(by_setting)
        return
    if dataset is None:
        settings.forget_dataset(values)
    print_json(values) if as_json else print_settings(values, origins(stack))
