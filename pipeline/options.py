"""Options that all commands share, and the commands of single stages.

A command gets what makes runs and engines from its context (`Program`), so that a stage file holds
its own command and still imports neither.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from pipeline.core.progress import logged

Result = TypeVar("Result")
PANEL: dict[str, Any] = {"rich_help_panel": "Execution (default: this process)"}


@dataclass(frozen=True)
class Program:
    """Makers of runs and engines; the program puts one into the context of its commands."""

    run: Callable[..., Any]
    """`pipeline.run.Run.of`: dataset, profile, overrides and folder of weights to a run."""
    engine: Callable[..., AbstractContextManager[Any]]
    """Options of execution (workers, scheduler, part, quiet) to an engine."""


DatasetOption = Annotated[
    str, typer.Option("--dataset", "-d", help="Dataset: a name in cfgs/datasets, or a YAML file.")
]
AnyDatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", "-d", help="Limit to one dataset: a name in cfgs/datasets, or a YAML file."
    ),
]
ProfileOption = Annotated[
    str, typer.Option("--profile", "-p", help="Profile: a name in cfgs/profiles, or a YAML file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override a setting: section.field=value; may be repeated."),
]
ExperimentProfileOption = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="Profile, in place of the experiment's own."),
]
StoredProfileOption = Annotated[
    str | None, typer.Option("--profile", "-p", help="Profile of the run. Default: official.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(metavar="PLACE", help="Folder or address of the store, or of a copy."),
]
ImagesOption = Annotated[
    list[str] | None,
    typer.Option(help="Image to show: its number, path or end of its path; may be repeated."),
]
SentencesOption = Annotated[str | None, typer.Option(help="JSON file of sentences by class name.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights-dir",
        help="Folder of model weights, in place of ABS_WEIGHTS; downloads are stored there.",
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force", help="Remove the stored artifact, with the crops of every N; compute it again."
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict-code", help="Stop if a stored artifact was made by other code than the present."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and compute nothing.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

StageArgument = Annotated[
    str,
    typer.Argument(
        metavar="STAGE", help="Stage, such as scores, embeddings-raw or embeddings raw."
    ),
]
WhichArgument = Annotated[
    str,
    typer.Argument(
        metavar="[VARIANT]",
        help="One variant of the stage, such as raw or cupl. Default: all of them.",
        show_default=False,
    ),
]


WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of local worker processes; with several GPUs, one GPU each.", **PANEL
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Running Dask scheduler, such as tcp://host:8786.", **PANEL
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Number of this process among N that share the units.", **PANEL
    ),
]
LogOption = Annotated[
    str | None,
    typer.Option("--log-file", metavar="FILE", help="Append progress to a file, also with -q."),
]
WHERE = {"workers": WorkersOption, "scheduler": SchedulerOption, "part": PartOption}


def distributed(
    command: Callable[..., Result], fixed: tuple[str, ...] = ()
) -> Callable[..., Result]:
    """Replace a command's parameter `engine` by the options that choose one.

    The command must take `context`, whose `obj` is the `Program`. Parameters in `fixed` are no
    options: they keep their default.
    """

    @wraps(command)
    def chosen(context: typer.Context, **options: Any) -> Result:
        quiet = bool(options.get("quiet") or options.get("as_json"))
        where = {name: options.pop(name) for name in WHERE}
        with (
            logged(options.pop("log_file")),
            context.obj.engine(**where, quiet=quiet) as engine,
        ):
            return command(context, engine=engine, **options)

    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name not in ("engine", *fixed)
    ]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in {"log_file": LogOption, **WHERE}.items()
    ]
    chosen.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    chosen.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *more]}
    return chosen


def stage_command(kind: str, summary: str, module_doc: str | None) -> Callable[..., None]:
    """Return the command that computes one stage from stored inputs.

    Its help is `summary`, then the docstring of the stage's module without its first paragraph.
    """
    return _computing(kind, _stage_help(summary, module_doc), fixed=("which",))


def variants_command(kind: str, summary: str, module_doc: str | None) -> Callable[..., None]:
    """Return the command that computes one variant of a stage, or all, from stored inputs.

    Its help is that of `stage_command`.
    """
    return _computing(kind, _stage_help(summary, module_doc))


def _computing(kind: str, help_text: str, fixed: tuple[str, ...] = ()) -> Callable[..., None]:
    """Return the command of a stage without the parameters in `fixed`, which keep their default."""

    def command(
        context: typer.Context,
        dataset: DatasetOption,
        which: WhichArgument = "",
        profile: ProfileOption = "official",
        overrides: SetOption = None,
        weights_dir: WeightsOption = None,
        force: ForceOption = False,
        strict_code: StrictOption = False,
        quiet: QuietOption = False,
        as_json: JsonOption = False,
        engine: Any = None,
    ) -> None:
        chosen = context.obj.run(dataset, profile, overrides, weights_dir)
        name = f"{kind}-{which}" if which else kind
        outcomes = chosen.make_alone(name, force, quiet or as_json, strict_code, engine)
        print_json([outcome.as_dict() for outcome in outcomes]) if as_json else None

    command.__doc__ = help_text
    return distributed(command, fixed)


def _stage_help(summary: str, module_doc: str | None) -> str:
    """Replace the first paragraph of a docstring by `summary`."""
    _, blank, details = inspect.cleandoc(module_doc or "").partition("\n\n")
    return summary + blank + details


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    print(json.dumps(value, indent=1))
