"""Commands that look at the store, and after it: status, why, plan, path, verify, gc.

They load no model, but for `verify --deep`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands import Run, print_json
from pipeline.datasets import NAME
from pipeline.errors import ConfigError
from pipeline.options import (
    AnyDatasetOption,
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from pipeline.store import Store

StageArgument = Annotated[
    str, typer.Argument(help="A stage, such as scores or embeddings-raw.", metavar="STAGE")
]


def status(
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show each stage's state, units, size and age, and who is at it."""
    from pipeline import report

    chosen = Run.of(dataset, profile, set_, weights_dir)
    states = report.states(chosen.store, chosen.stages)
    print_json(states) if as_json else report.print_status(states)


def why(
    stage: StageArgument,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a stage has to be computed: what differs from what is stored."""
    from pipeline import report
    from pipeline.why import why

    chosen = Run.of(dataset, profile, set_, weights_dir)
    answers = [why(chosen.store, each) for each in chosen.named(stage)]
    print_json(answers) if as_json else report.print_reasons(answers)


def plan(
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would compute, write and hold in memory."""
    from pipeline import report

    chosen = Run.of(dataset, profile, set_, weights_dir)
    planned = report.plan(chosen.store, chosen.stages)
    print_json(planned) if as_json else report.print_plan(planned)


def path(
    stage: StageArgument,
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
) -> None:
    """Print the folder of a stage's finished artifact, for scripts."""
    chosen = Run.of(dataset, profile, set_, weights_dir)
    for found in chosen.named(stage):
        print(chosen.store.open(found).path)


def verify(
    dataset: AnyDatasetOption = None,
    profile: ProfileOption = "official",
    set_: SetOption = None,
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
    from pipeline import report
    from pipeline import verify as verification
    from pipeline.progress import Reporter
    from pipeline.settings import load

    if deep and dataset is None:
        raise ConfigError("--deep: needs --dataset, whose settings say what to compute again")
    reporter, found = Reporter(quiet or as_json), verification.Checkup()
    found.look(_stores(dataset, profile, set_, weights_dir), reporter)
    found.unmarked = [] if dry_run else verification.mark(found.damage)
    if deep and dataset is not None and not found.damage:
        settings = load(dataset, profile, set_ or (), weights_dir)
        settings.paths.memory(settings.dataset.name).unlink(missing_ok=True)
        found.compute_again(Run.of(dataset, profile, set_, weights_dir), reporter)
    marked = bool(found.damage) and not (dry_run or found.again)
    print_json(found.as_dict()) if as_json else report.print_checkup(found.as_dict(), marked)
    if deep and found.damage and not found.again:
        reporter.say("--deep was left out: first mend what is damaged")
    return 1 if found.damage else 0


def gc(
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
    from pipeline import gc as collection
    from pipeline import report

    parts = _stores(dataset)
    found = [(store, each) for store in parts for each in collection.waste(store, keep_days)]
    gone = [each for store, each in found if delete and collection.delete(store, each)]
    rows = [{**each.as_dict(), "deleted": each in gone} for _, each in found]
    print_json(rows) if as_json else report.print_waste(rows, delete)


def _stores(
    dataset: str | None,
    profile: str = "official",
    changes: list[str] | None = None,
    weights_dir: str | None = None,
) -> list[Store]:
    """The part of the store that is one dataset's, by its settings or else its folder; or all."""
    from pipeline.artifact import TRASH
    from pipeline.settings import load
    from pipeline.store import RUNS, Store

    if dataset is None:
        root = load(None, profile, changes or ()).paths.store
        found = [Store(root, path.name) for path in sorted(root.glob("[!.]*")) if path.is_dir()]
        traces = f"{RUNS}/*", f"*/{TRASH}*"
        return [
            store
            for store in found
            if store.artifacts() or any(any(store.folder.glob(trace)) for trace in traces)
        ]
    try:
        settings = load(dataset, profile, changes or (), weights_dir)
    except ConfigError:
        root = load(None).paths.store
        if changes or not re.fullmatch(NAME, dataset) or not (root / dataset).is_dir():
            raise
        return [Store(root, dataset)]
    return [Store(settings.paths.store, settings.dataset.name)]
