"""`abs gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_waste
from pipeline.cli.stores import stores_of
from pipeline.inspect import gc as collection
from pipeline.options import AnyDatasetOption, JsonOption, print_json


def command(
    dataset: AnyDatasetOption = None,
    keep_days: Annotated[
        float,
        typer.Option(min=0, help="Keep what was used or written to in so many days."),
    ] = 30,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it, not only list it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what no run needs any more, with its size; delete it on request.

    What the last run of a dataset needs always stays, and so does what a process is at.
    """
    parts = stores_of(dataset)
    found = [(store, each) for store in parts for each in collection.unreferenced(store, keep_days)]
    gone = [each for store, each in found if delete and collection.delete(store, each)]
    rows = [{**each.as_dict(), "deleted": each in gone} for _, each in found]
    print_json(rows) if as_json else print_waste(rows, delete)
