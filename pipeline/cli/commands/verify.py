"""`abs verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_checkup
from pipeline.cli.stores import stores_of
from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter
from pipeline.inspect import verify as verification
from pipeline.inspect.recompute import recompute
from pipeline.options import (
    AnyDatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.run import Run
from pipeline.settings import load


def command(
    dataset: AnyDatasetOption = None,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also read images, weights and prompt files again, and compute one unit of every "
            "stage of these settings again (needs --dataset).",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is damaged, and leave it as it is.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Compare every stored byte with its digest. Exit code 1 if something is damaged.

    What is damaged is marked as unfinished, so that the next run computes just that again.
    """
    if deep and dataset is None:
        raise ConfigError("--deep: needs --dataset, whose settings say what to compute again")
    reporter, found = Reporter(quiet or as_json), verification.VerifyReport()
    found.look(stores_of(dataset, profile, overrides or (), weights_dir), reporter)
    found.unmarked = [] if dry_run else verification.mark(found.damage)
    if deep and dataset is not None and not found.damage:
        settings = load(dataset, profile, overrides or (), weights_dir)
        settings.paths.memory(settings.dataset.name).unlink(missing_ok=True)
        run = Run.of(dataset, profile, overrides, weights_dir)
        recompute(found, run.store, run.stages, reporter)
    marked = bool(found.damage) and not (dry_run or found.again)
    print_json(found.as_dict()) if as_json else print_checkup(found.as_dict(), marked)
    if deep and found.damage and not found.again:
        reporter.say("--deep was left out: first mend what is damaged")
    return 1 if found.damage else 0
