"""`abs`, the command line program: its table of commands, and its exit codes.

The module of a command is imported when the command is run, so that `abs --help` imports none of
them. Bad input, an interrupted run and a full disk end in one line and an exit code, never in a
traceback: 1 for a missing input, a failure, or a check that finds something, 2 for a wrong setting
or option, 130 and 143 when interrupted or terminated.
"""

from __future__ import annotations

import inspect
import os
import sys
from functools import cache
from importlib import import_module, metadata
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.cli.grammar import Command, in_grammar
from pipeline.core.errors import AbsError
from pipeline.options import Program


class Entry(NamedTuple):
    """A command: its module, its panel in `abs --help`, and the first line of its help."""

    module: str
    panel: str
    help: str


def _entries(panel: str, package: str, **lines: str) -> dict[str, Entry]:
    return {name: Entry(f"{package}.{name}", panel, line) for name, line in lines.items()}


COMMANDS: dict[str, Entry] = {
    "try": Entry(
        "pipeline.cli.commands.trial",
        "Commands",
        "Try the methods on a sample of your own photographs, in a few minutes on a CPU.",
    ),
    **_entries(
        "Commands",
        "pipeline.cli.commands",
        run="Compute all missing stages, then print the table of results.",
        config="Print the settings of a run: those that differ from cfgs/default.yaml, or all.",
        list="List datasets, methods, profiles, experiments, models, runs or sweeps.",
        doctor="Check a dataset: images, classes, texts. Exit code 0 if it can be run.",
        init="Write cfgs/datasets/NAME.yaml for your own images.",
        describe="Let a language model describe the classes of a dataset.",
        classify="Classify single images by every method whose texts are given.",
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
        attention="Compute the attention maps of a self-supervised ViT for each image.",
        crops="Draw the crops of each image and of its token grid.",
        embeddings="Encode whole images and their crops as unit vectors.",
        scores="Score every image against every class with each method.",
        metrics="Compute accuracy with intervals, calibration error and confusion matrix.",
    ),
    **_entries(
        "Store",
        "pipeline.cli.commands",
        status="Show the state, units, size and age of each stage, and which processes work on it.",
        why="Explain why a stage has to be computed: what differs from the stored artifacts.",
        plan="Show what a run would compute, write and hold in memory.",
        path="Print the folder of a stage's finished artifact, for scripts.",
        verify="Compare every stored file with its digest. Exit code 1 if one is damaged.",
        gc="List artifacts that no recent run needs, with their size; delete them on request.",
    ),
    **_entries(
        "Study",
        "pipeline.cli.commands",
        sweep="Run every setting of an experiment, and print a table of the results.",
        table="Print an experiment's results beside the paper's, or the table of a stored sweep.",
        check="Compare the accuracy of ABS with the paper's, and list what can explain a gap.",
        compare="Compare two methods or settings image by image, with McNemar's test.",
        figure="Draw a figure for print from what is stored: PDF, SVG and PNG.",
        report="Write the results of a run, and its crops, as pages to open in a browser.",
        explain="Explain a prediction: which crops decided, and which descriptions they matched.",
    ),
    "import-scores": Entry(
        "pipeline.cli.commands.import_scores",
        "Study",
        "Import the scores or predictions of another system, as a method like the others.",
    ),
    "check-settle": Entry(
        "pipeline.cli.commands.check_settle",
        "Study",
        "Compare decisions of images that settle early with those of all their crops.",
    ),
}


class Commands(TyperGroup):
    """Command group of `COMMANDS`: imports a command only to run it or to print its help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {
            name: TyperCommand(name, help=entry.help, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that `args` names, and import it; `crops-raw` is `crops raw`."""
        stage, dash, variant = args[0].partition("-") if args else ("", "", "")
        if dash and args[0] not in self.commands and _panel(stage) == "Stages":
            args = [stage, variant, *args[1:]]
        name, _, rest = super().resolve_command(ctx, args)
        return name, import_command(name) if name else None, rest


@cache
def import_command(name: str) -> TyperCommand:
    """Import a command with its options and its long help."""
    module = import_module(COMMANDS[name].module)
    single = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    single.command(name, cls=Command, help=_unwrapped(module.command.__doc__))(
        in_grammar(module.command)
    )
    command: TyperCommand = typer.main.get_command(single)  # type: ignore[assignment]
    return command


def _panel(name: str) -> str:
    return COMMANDS[name].panel if name in COMMANDS else ""


def _unwrapped(docstring: str) -> str:
    """Join the lines of each paragraph that is not indented, to be wrapped to the terminal."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else p.replace("\n", " ") for p in paragraphs)


def _run(*words: Any) -> Any:
    from pipeline.run import Run  # imports all stages

    return Run.of(*words)


def _engine(**options: Any) -> Any:
    from pipeline.cli.engines import engine_of  # imports all stages

    return engine_of(**options)


CODES = "Exit codes: 0 done; 1 missing, failed or damaged; 2 wrong setting or option; 130 stopped."

app = typer.Typer(
    name="abs",
    cls=Commands,
    epilog=CODES,
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
    """Run a command and return its exit code; errors of the user are one line on standard error."""
    try:
        return int(app(standalone_mode=False) or 0)
    except AbsError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os._exit(1)  # the reader of standard output, such as `head`, has exited
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}: check path, permissions, space left", 1)
    except Exception as error:
        return _usage(error)


def _usage(error: Any) -> int:
    """Print an error in the command line; re-raise anything else, which is a bug."""
    if not hasattr(error, "format_message"):
        raise error
    message = " ".join(error.format_message().split())
    # Without arguments the help has been printed already, and the message is empty.
    return _fail(f"{message} (see abs --help)", 2) if message else 0


def _fail(message: str, code: int) -> int:
    print(f"abs: {message}", file=sys.stderr)
    return code
