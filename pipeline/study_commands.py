"""Commands that study results: sweep, table, check, compare."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands import Run, print_json
from pipeline.errors import ConfigError
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
    distributed,
)

if TYPE_CHECKING:
    from pipeline.engine import Engine


class Format(StrEnum):
    """Of a table."""

    plain = "plain"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


@distributed
def sweep(
    name: Annotated[
        str | None, typer.Argument(help="A name in cfgs/experiments, or a YAML file.")
    ] = None,
    dataset: DatasetOption = "demo",
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=A,B,...", help="A setting to vary; several: every combination."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Draws; sigma is over these.")] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="Instead of the experiment's own.")
    ] = None,
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is shared.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Engine | None = None,
) -> int:
    """Run every setting of an experiment, and print a table: what they share is made once."""
    from pipeline import experiments, report
    from pipeline.progress import Reporter
    from pipeline.sweeps import Sweep

    if not name and not over:
        raise ConfigError("sweep: name an experiment, or give --over FIELD=A,B,...")
    if name:
        experiment = experiments.load_experiment(name, dataset)
        title = name.rsplit("/", 1)[-1].removesuffix(".yaml")
    else:
        experiment, title = experiments.Experiment(), "sweep"
    changes: dict[str, object] = {"set": [*experiment.set, *(set_ or ())]}
    changes |= {"grids": [experiments.grid_of(over)]} if over else {}
    changes |= {"seeds": seeds} if seeds else {}
    changes |= {"profile": profile} if profile else {}
    chosen = Sweep.of(title, dataset, experiment.model_copy(update=changes), weights_dir)
    planned = chosen.plan()
    if dry_run:
        print_json(planned) if as_json else report.print_sweep(planned)
        return 0
    if not (quiet or as_json):
        report.print_sweep(planned)
    chosen.execute(Reporter(quiet or as_json), engine)
    table = chosen.table()
    if as_json:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        print_json({"plan": planned, "table": rows, "failed": chosen.failures()})
    else:
        report.print_table(table, chosen.write())
        report.print_failed(chosen.failures())
    return 1 if chosen.failed else 0


def table(
    name: Annotated[str, typer.Argument(help="A name in cfgs/experiments, such as table4.")],
    dataset: DatasetOption = "demo",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    style: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.plain,
) -> None:
    """Print an experiment's results beside the paper's; `abs sweep` makes what is missing."""
    from pipeline import experiments, report
    from pipeline.costs import with_seconds
    from pipeline.paper import beside
    from pipeline.sweeps import Sweep

    experiment = experiments.load_experiment(name, dataset)
    changed = experiment.model_copy(update={"set": [*experiment.set, *(set_ or ())]})
    chosen = Sweep.of(name, dataset, changed, weights_dir)
    found = beside(chosen)
    if experiment.seconds:
        found = with_seconds(found, chosen)
    if found["ours"].isna().all():
        print(f"Nothing of ours is there yet; make it: abs sweep {name} --dataset {dataset}")
    report.print_beside(found, style.value)


def check(
    dataset: Annotated[str, typer.Argument(help="A dataset of the paper, such as imagenet.")],
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compare our accuracy of ABS with the paper's, and list what can explain a gap."""
    from pipeline import check as checking
    from pipeline import report
    from pipeline.settings import load

    base = [f"scores.n={checking.PAPER['scores.n']}"]
    run = Run.of(dataset, "official", [*base, *(set_ or ())], weights_dir)
    found = checking.check(run, load(dataset, "official", base, weights_dir))
    print_json(asdict(found)) if as_json else report.print_check(asdict(found))
    return 0 if found.within else 1


def compare(
    a: Annotated[
        str, typer.Argument(help="METHOD, or METHOD@section.field=value for other settings.")
    ],
    b: Annotated[str, typer.Argument(help="The same.")],
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two methods or settings, image by image: who is right where the other is not."""
    from pipeline import report
    from pipeline.comparison import compared

    def run(changes: list[str]) -> Run:
        return Run.of(dataset, profile, [*(set_ or ()), *changes], weights_dir)

    found = asdict(compared(run, a, b))
    print_json(found) if as_json else report.print_comparison(found, a, b)
