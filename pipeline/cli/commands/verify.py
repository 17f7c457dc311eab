"""`abs verify`: compare every stored file with its digest."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.store_tables import print_verify_report
from pipeline.cli.stores import stores_of
from pipeline.core import files
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
            help="Also hash images, weights and prompt files again, and compute one unit of every "
            "stage again to compare it (needs --dataset).",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the damage, but mark nothing as unfinished.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Compare every stored file with its digest. Exit code 1 if one is damaged.

    Damaged units are marked as unfinished, so that the next run computes them again; `--dry-run`
    leaves them as they are.
    """
    if deep and dataset is None:
        raise ConfigError(
            "--deep: give --dataset; its settings decide which stages to compute again"
        )
    reporter, report = Reporter(quiet or as_json), verification.VerifyReport()
    report.look(stores_of(dataset, profile, overrides or (), weights_dir), reporter)
    report.unmarked = [] if dry_run else verification.mark(report.damage)
    if deep and dataset is not None and not report.damage:
        settings = load(dataset, profile, overrides or (), weights_dir)
        for kind in ("", ".files", ".listing", ".shards"):
            files.remove(settings.paths.memory(settings.dataset.name + kind))
        run = Run.of(dataset, profile, overrides, weights_dir)
        recompute(report, run.store, run.stages, reporter)
    marked = bool(report.damage) and not (dry_run or report.again)
    print_json(report.as_dict()) if as_json else print_verify_report(report.as_dict(), marked)
    if deep and report.damage and not report.again:
        reporter.say("--deep skipped: run the damaged stages again first")
    return 1 if report.damage else 0
