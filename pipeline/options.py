"""The options that all commands share, and the commands of single stages.

A command gets its run from the context: the program puts there what makes one, so that a stage
need not know how runs are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

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


def stage_command(kind: str) -> Callable[..., None]:
    """The command that makes one stage alone, from inputs that are there."""

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
    ) -> None:
        chosen = context.obj(dataset, profile, set_, weights_dir)
        chosen.make_alone(kind, force, quiet, as_json, strict_code)

    return command


def variants_command(kind: str) -> Callable[..., None]:
    """The same for a stage of several instances: one of them, or all."""

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
    ) -> None:
        chosen = context.obj(dataset, profile, set_, weights_dir)
        chosen.make_alone(f"{kind}-{which}" if which else kind, force, quiet, as_json, strict_code)

    return command
