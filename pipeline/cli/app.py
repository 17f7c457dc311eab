"""`abs`: one command per stage, one for the whole chain, and those that look, study or prepare.

A command's module is imported when it is run, so that `abs --help` loads none of them. Bad input,
an interrupted run and a full disk end in one line and an exit code, never in a traceback: 1 for
what is missing or failed, 2 for a wrong setting or option, 130 and 143 when interrupted or
terminated.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module, metadata
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.core.errors import AbsError
from pipeline.options import Program


class Entry(NamedTuple):
    """A command in the list of help: where it is defined, and its first line."""

    module: str
    panel: str
    help: str


def _entries(panel: str, package: str, **lines: str) -> dict[str, Entry]:
    return {name: Entry(f"{package}.{name}", panel, line) for name, line in lines.items()}


COMMANDS: dict[str, Entry] = {
    **_entries(
        "Commands",
        "pipeline.cli.commands",
        run="Make whatever is missing, then print the table of results.",
        config="Print the settings of a run: those that differ from cfgs/default.yaml, or all.",
        doctor="Check a dataset: images, classes, texts. Exit code 0 if it can be run.",
        init="Write cfgs/datasets/NAME.yaml for images of one's own.",
    ),
    "bench": Entry(
        "pipeline.bench.command",
        "Commands",
        "Measure this machine: time every stage against a plain implementation.",
    ),
    **_entries(
        "Stages",
        "stages",
        index="List all readable images of a dataset.",
        descriptions="Encode the texts of each class.",
        attention="Compute where a self-supervised ViT looks in each image.",
        crops="Draw where to crop each image, and where to crop its token grid.",
        embeddings="Encode whole images and views of them as unit vectors.",
        scores="Score every image against every class, by every method.",
        metrics="Compute accuracies with intervals, calibration, confusion.",
    ),
    **_entries(
        "Store",
        "pipeline.cli.commands",
        status="Show the state, units, size and age of each stage, and which processes work on it.",
        why="Say why a stage has to be computed: what differs from what is stored.",
        plan="Show what a run would compute, write and hold in memory.",
        path="Print the folder of a stage's finished artifact, for scripts.",
        verify="Compare every stored byte with its digest. Exit code 1 if something is damaged.",
        gc="List what no run needs any more, with its size; delete it on request.",
    ),
    **_entries(
        "Study",
        "pipeline.cli.commands",
        sweep="Run every setting of an experiment, and print a table.",
        table="Print an experiment's results beside the paper's.",
        check="Compare our accuracy of ABS with the paper's, and list what can explain a gap.",
        compare="Compare two methods or settings, image by image.",
    ),
}


class Commands(TyperGroup):
    """The commands of `COMMANDS`, each imported only to be run or to print its own help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {
            name: TyperCommand(name, help=entry.help, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is meant."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, import_command(name) if name else None, rest


@cache
def import_command(name: str) -> TyperCommand:
    """The command of that name, with its options."""
    module = import_module(COMMANDS[name].module)
    single = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    single.command(name, help=module.command.__doc__)(module.command)
    command: TyperCommand = typer.main.get_command(single)  # type: ignore[assignment]
    return command


def _run(*words: Any) -> Any:
    from pipeline.run import Run  # builds stages

    return Run.of(*words)


def _engine(**options: Any) -> Any:
    from pipeline.cli.engines import engine_of  # knows all stages

    return engine_of(**options)


app = typer.Typer(
    name="abs",
    cls=Commands,
    help="Attention-based selection for zero-shot classification: encode once, score anything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "obj": Program(_run, _engine)},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"abs-pipeline {metadata.version('abs-pipeline')}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Attention-based selection for zero-shot classification: encode once, score anything."""


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
