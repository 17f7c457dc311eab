"""The options that all commands share, and the commands of single stages.

A command gets its run from the context: the program puts there what makes one, so that a stage
need not know how runs are made.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.engine import Engine

Result = TypeVar("Result")
ADDRESS = re.compile(r"(tcp|tls|wss?|ucxx?)://([\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", re.ASCII)
PANEL: dict[str, Any] = {"rich_help_panel": "Where units are done; in this process without these"}

DatasetOption = Annotated[
    str, typer.Option("--dataset", "-d", help="A name in cfgs/datasets, or a YAML file.")
]
AnyDatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", help="As for runs; without one, of any dataset.")
]
ProfileOption = Annotated[
    str, typer.Option("--profile", "-p", help="A name in cfgs/profiles, or a YAML file.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="section.field=value; may be repeated.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights-dir", help="Folder of weights, as ABS_WEIGHTS; searched, then filled."),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force", help="Remove what is there, all its crops included, and compute it again."
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option("--strict-code", help="Refuse what another version of a stage's code has made."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

WhichArgument = Annotated[
    str, typer.Argument(help="One instance, such as raw or cupl; all of them without it.")
]


WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Processes on this machine; of several GPUs one each.", **PANEL),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Dask cluster, such as tcp://host:8786.", **PANEL),
]
PartOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="This is one of N processes that share the work.", **PANEL),
]
WHERE = {"workers": WorkersOption, "scheduler": SchedulerOption, "part": PartOption}


def distributed(command: Callable[..., Result]) -> Callable[..., Result]:
    """A command that takes an `engine`, with the options that choose one in its place."""

    @wraps(command)
    def chosen(*words: Any, **options: Any) -> Result:
        quiet = bool(options.get("quiet") or options.get("as_json"))
        where = {name: options.pop(name) for name in WHERE}
        with _engine(**where, quiet=quiet) as engine:
            return command(*words, engine=engine, **options)

    hints = get_type_hints(command, localns={"Engine": Any}, include_extras=True)
    own = [
        each.replace(annotation=hints[each.name])
        for each in inspect.signature(command).parameters.values()
        if each.name != "engine"
    ]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in WHERE.items()
    ]
    chosen.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    chosen.__annotations__ = {each.name: each.annotation for each in [*own, *more]}
    return chosen


def _engine(workers: int | None, scheduler: str | None, part: str | None, quiet: bool) -> Engine:
    """Where units are done; ConfigError for what cannot be meant together."""
    from pipeline.cluster import Cluster
    from pipeline.engine import Part
    from pipeline.inline import Inline
    from pipeline.local_cluster import workers_here
    from pipeline.progress import Reporter

    share = Part.parse(part) if part is not None else None
    found = ADDRESS.fullmatch(scheduler) if scheduler is not None else None
    if scheduler is not None and not (found and 0 < int(found[3]) < 2**16):
        raise ConfigError(f"--scheduler {scheduler!r}: write an address: tcp://host:8786")
    if scheduler and (workers or part):
        raise ConfigError("--scheduler: its workers share all units; leave --workers and --part")
    if workers:
        return Cluster(partial(workers_here, workers, Reporter(quiet)), share)
    if scheduler:
        from pipeline.link import scheduler_at

        return Cluster(partial(scheduler_at, scheduler, Reporter(quiet)))
    return Inline(share)


def stage_command(kind: str) -> Callable[..., None]:
    """The command that makes one stage alone, from inputs that are there."""

    @distributed
    def command(
        context: typer.Context,
        dataset: DatasetOption,
        profile: ProfileOption = "official",
        set_: SetOption = None,
        weights_dir: WeightsOption = None,
        force: ForceOption = False,
        strict_code: StrictOption = False,
        quiet: QuietOption = False,
        as_json: JsonOption = False,
        engine: Engine | None = None,
    ) -> None:
        chosen = context.obj(dataset, profile, set_, weights_dir)
        chosen.make_alone(kind, force, quiet, as_json, strict_code, engine)

    return command


def variants_command(kind: str) -> Callable[..., None]:
    """The same for a stage of several instances: one of them, or all."""

    @distributed
    def command(
        context: typer.Context,
        dataset: DatasetOption,
        which: WhichArgument = "",
        profile: ProfileOption = "official",
        set_: SetOption = None,
        weights_dir: WeightsOption = None,
        force: ForceOption = False,
        strict_code: StrictOption = False,
        quiet: QuietOption = False,
        as_json: JsonOption = False,
        engine: Engine | None = None,
    ) -> None:
        chosen = context.obj(dataset, profile, set_, weights_dir)
        name = f"{kind}-{which}" if which else kind
        chosen.make_alone(name, force, quiet, as_json, strict_code, engine)

    return command
