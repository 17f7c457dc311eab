"""`abs gc`: list artifacts that no recent run needs, and delete them on request."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_unreferenced
from pipeline.cli.stores import stores_of
from pipeline.inspect import gc as collection
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
    keep_days: Annotated[
        float,
        typer.Option(
            min=0, help="Keep artifacts used or written to in the last DAYS days.", metavar="DAYS"
        ),
    ] = 30,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the listed artifacts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List artifacts that no recent run needs, with their size; delete them on request.

    Artifacts that the last run of a dataset needs are always kept, and so are those that a running
    process uses.
    """
    candidates = [
        (store, item)
        for store in stores_of(dataset, profile, overrides or (), weights_dir)
        for item in collection.unreferenced(store, keep_days)
    ]
    deleted = [item for store, item in candidates if delete and collection.delete(store, item)]
    rows = [{**item.as_dict(), "deleted": item in deleted} for _, item in candidates]
    print_json(rows) if as_json else print_unreferenced(rows, delete)
