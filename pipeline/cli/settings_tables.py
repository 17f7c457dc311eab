"""Print settings: with the layers they come from, or where two profiles differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.cli.tables import print_rich
from pipeline.core.layers import plain

Origins = Mapping[str, list[tuple[str, Any]]]
"""Layers that give a setting, and their values, lowest first; by dotted name."""
MAX_COLUMN = 40
"""Furthest column of a comment behind a value that is not longer itself."""


def print_settings(values: Mapping[str, Any], origins: Origins) -> None:
    """Print nested settings as YAML, each value with a comment that names its layer."""
    lines = list(_lines(values, origins))
    column = min(MAX_COLUMN, max((len(text) for text, layer in lines if layer), default=0))
    for text, layer in lines:
        print(f"{text:<{column}}  # {layer}" if layer else text)


def _lines(
    values: Mapping[str, Any], origins: Origins, path: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield each line of the YAML, and its layer; no layer for the name of a section."""
    indent = "  " * path.count(".")
    for name, value in values.items():
        where = f"{path}{name}"
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:", ""
            yield from _lines(value, origins, f"{where}.")
        else:
            yield f"{indent}{name}: {plain(value)}", _layer(origins, where)


def _layer(origins: Origins, name: str) -> str:
    """Name the layer that decides a setting, and what the profile has instead."""
    while name and name not in origins:  # a layer may give a whole section as one value
        name = name.rpartition(".")[0]
    given = origins.get(name) or [("built in", None)]
    layer, value = given[-1]
    profile = [(place, old) for place, old in given[:-1] if place.startswith("profile ")]
    beaten = [f"{place} has {plain(old)}" for place, old in profile if old != value]
    return ", ".join([layer, *beaten])


def layer_rows(origins: Origins) -> list[dict[str, Any]]:
    """Return a row for every setting: its name, its value, the layer that decides, and the layers
    that give it another value or the same, lowest first.
    """
    return [
        {
            "setting": name,
            "value": given[-1][1],
            "layer": given[-1][0],
            "given": [{"layer": layer, "value": value} for layer, value in given],
        }
        for name, given in sorted(origins.items())
    ]


def print_layers(rows: list[dict[str, Any]]) -> None:
    """Print a row for every setting: its value, its layer, and what lower layers have."""
    table = Table("setting", "value", "layer", "below", box=None, pad_edge=False)
    for row in rows:
        below = [f"{one['layer']}: {plain(one['value'])}" for one in row["given"][:-1]]
        cells = row["setting"], plain(row["value"]), row["layer"], ", ".join(below)
        table.add_row(*map(escape, cells))
    print_rich(table)


def print_differences(settings: Mapping[str, tuple[Any, Any]], a: str, b: str) -> None:
    """Print the settings that differ between two profiles, with their values in both."""
    if not settings:
        print(f"{a} and {b} do not differ.")
        return
    table = Table("setting", a, b, box=None, pad_edge=False)
    for name, values in settings.items():
        table.add_row(name, *(escape(plain(value)) for value in values))
    print_rich(table)
