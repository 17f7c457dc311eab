"""`abs`: one command per stage, one for the chain, and a few that look.

Bad input, an interrupted run and a full disk end in one line and an exit code, never in a
traceback: 1 for what is missing or failed, 2 for a wrong setting or option, 130 and 143 when
interrupted or terminated.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import store_commands, study_commands
from pipeline.commands import Run, print_json
from pipeline.errors import AbsError, ConfigError, MissingInput
from pipeline.options import (
    AnyDatasetOption,
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    StrictOption,
    WeightsOption,
    distributed,
)

if TYPE_CHECKING:
    from pipeline.engine import Engine

app = typer.Typer(
    name="abs",
    help="Attention-based selection for zero-shot classification: encode once, score anything.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "obj": Run.of},
)

STAGES = ("index", "descriptions", "attention", "crops", "embeddings", "scores", "metrics")
for _kind in STAGES:
    _module = import_module(f"stages.{_kind}")
    _help = (_module.__doc__ or "").partition(": ")[2].partition("\n\nReads")[0]
    app.command(_kind, help=_help, rich_help_panel="Stages")(_module.command)


for _look in (
    store_commands.status,
    store_commands.why,
    store_commands.plan,
    store_commands.path,
    store_commands.verify,
    store_commands.gc,
):
    app.command(rich_help_panel="Store")(_look)


for _study in (
    study_commands.sweep,
    study_commands.table,
    study_commands.check,
    study_commands.compare,
):
    app.command(rich_help_panel="Study")(_study)


@app.command()
@distributed
def run(
    dataset: DatasetOption,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    to: Annotated[str, typer.Option(help="The last stage to make.")] = "metrics",
    force: Annotated[list[str] | None, typer.Option(help="A stage to compute again.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    strict_code: StrictOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Engine | None = None,
) -> None:
    """Make whatever is missing, then print the table of results."""
    from pipeline import report
    from pipeline.run import needed

    chosen = Run.of(dataset, profile, set_, weights_dir)
    stages = needed(chosen.named(to), chosen.stages)
    forced = [stage for name in force or [] for stage in chosen.named(name)]
    if unneeded := [stage.name for stage in forced if stage not in stages]:
        raise ConfigError(f"--force {unneeded[0]}: not needed for {to} under these settings")
    if dry_run:
        planned = report.plan(chosen.store, stages, forced)
        print_json(planned) if as_json else report.print_plan(planned)
        return
    outcomes = chosen.execute(stages, forced, quiet or as_json, strict_code, engine)
    results = report.results(chosen.store, stages[-1])
    if as_json:
        print_json({"stages": [o.as_dict() for o in outcomes], "results": results})
        return
    if all(outcome.state == "cached" for outcome in outcomes):
        print("Nothing to do: every stage is finished.")
    if results:
        report.print_results(results, chosen.store)
        report.print_skipped(chosen.store, chosen.named("index")[0])
        report.print_left_out(chosen.settings)


@app.command()
def config(
    dataset: AnyDatasetOption = None,
    profile: ProfileOption = "official",
    set_: SetOption = None,
    weights_dir: WeightsOption = None,
    resolved: Annotated[bool, typer.Option(help="All settings, not only what is changed.")] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two profiles: only what differs between them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the settings of a run: those that differ from cfgs/default.yaml, or all."""
    import yaml

    from pipeline import report, settings

    if diff:
        runs = [settings.load(dataset, name, set_ or (), weights_dir) for name in diff]
        found = settings.differences(*runs)
        print_json(found) if as_json else report.print_differences(found, *diff)
        return
    loaded = settings.load(dataset, profile, set_ or (), weights_dir)
    values = loaded.model_dump(mode="json") if resolved else settings.changed(loaded)
    if dataset is None:
        settings.forget_dataset(values)
    print_json(values) if as_json else print(yaml.safe_dump(values, sort_keys=False), end="")


@app.command()
def doctor(
    name: Annotated[str, typer.Argument(help="A name in cfgs/datasets, or a YAML file.")],
    profile: ProfileOption = "official",
    set_: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Say what of a dataset is there: images, classes, texts. Exit code 0 if it can be run."""
    from pipeline import report
    from pipeline.doctor import examine, only_index

    found = examine(Run.of(name, profile, set_, plan=only_index), quiet or as_json)
    print_json(found.as_dict()) if as_json else report.print_examination(found.as_dict())
    return 0 if found.usable else 1


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="What to call the dataset.")],
    images: Annotated[
        str,
        typer.Option(
            help="A folder of class folders, a CSV or Parquet with path and label, a Hugging Face "
            "dataset on disk, or a folder of WebDataset shards."
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Of a dataset with several: which.")] = None,
    names: Annotated[
        str | None, typer.Option(help="A JSON file of class names: by folder, or in order.")
    ] = None,
    descriptions: Annotated[
        str | None, typer.Option(help="A JSON file of sentences by class name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write cfgs/datasets/NAME.yaml for images of one's own."""
    from pipeline.locations import expand
    from pipeline.new_dataset import write_dataset

    path, found = write_dataset(
        name,
        expand(images),
        split=split,
        names=expand(names) if names else None,
        descriptions=expand(descriptions) if descriptions else None,
        force=force,
    )
    print(f"{len(found.samples):,} images, {len(found.classes)} classes ({found.layout})")
    print(f"{path}\nNext: abs doctor {name}; abs run --dataset {name}")


@app.command()
def bench(
    images: Annotated[
        str | None, typer.Option(help="A folder of photographs; the demo's drawings without it.")
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Images that stages work on.")] = 2,
    pairs: Annotated[int, typer.Option(min=1, help="Turns that both ways take.")] = 5,
) -> None:
    """Measure this machine: every stage beside the plain way to do the same."""
    from pipeline.locations import PROJECT, Paths, expand

    if not (PROJECT / "tests" / "bench.py").exists():
        raise MissingInput("the plain way lies in tests/ of a checkout, and there is none")
    sys.path.insert(0, str(PROJECT))
    from tests.bench import main

    store = Paths(artifacts=os.environ.get("ABS_ARTIFACTS", "artifacts")).store
    chosen = expand(images) if images else PROJECT / "pipeline" / "demo" / "images"
    main(chosen, number, pairs, store / "bench")


def run_app() -> int:
    """Run a command; its exit code. What a user can mend is one line on standard error."""
    try:
        return int(app(standalone_mode=False) or 0)
    except AbsError as error:
        return _say(str(error), error.exit_code)
    except BrokenPipeError:
        os._exit(1)  # whoever read the output has left
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _say(f"{error.strerror or error}{where}: check path, permissions, space left", 1)
    except Exception as error:
        return _usage(error)


def _usage(error: Any) -> int:
    """An error of the command line; anything else is a bug and is raised again."""
    if not hasattr(error, "format_message"):
        raise error
    message = error.format_message()
    # Without arguments the help has been printed, and there is nothing to say.
    return _say(f"{message} (see abs --help)", 2) if message else 0


def _say(message: str, code: int) -> int:
    print(f"abs: {message}", file=sys.stderr)
    return code
