"""Grammar of all commands: `abs COMMAND [SUBJECT] [DATASET] [OPTIONS]`.

A command declares its dataset as an option (`DatasetOption`). Every such command also takes the
dataset as its last word, after its subject, or as its first where that alone is known as one; with
`--dataset` all words are the subject. A stage is named with a space or a dash: `crops raw`,
`crops-raw`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from pipeline.core.errors import ConfigError

WORD = "dataset_word"
"""Parameter that shows the dataset among the arguments in the help of a command."""
STAGES = ("stage", "which")
"""Arguments that name a stage or its variant, in one or two words."""
DatasetArgument = Annotated[
    str | None,
    typer.Argument(metavar="DATASET", help="Dataset, in place of --dataset.", show_default=False),
]
UnusedQuietOption = Annotated[bool, typer.Option("--quiet", "-q", hidden=True)]


def in_grammar(command: Callable[..., Any]) -> Callable[..., Any]:
    """Complete the parameters of a command by those that every command takes.

    These are DATASET as the last argument if there is a parameter `dataset`, and `--quiet`, which
    changes nothing where a command shows no progress.
    """
    parameters = inspect.signature(command).parameters
    more: dict[str, Any] = {WORD: (None, DatasetArgument)} if "dataset" in parameters else {}
    more |= {} if "quiet" in parameters else {"quiet": (False, UnusedQuietOption)}

    @wraps(command)
    def completed(*words: Any, **options: Any) -> Any:
        return command(*words, **{n: value for n, value in options.items() if n not in more})

    hints = get_type_hints(command, include_extras=True)
    own = [each.replace(annotation=hints[each.name]) for each in parameters.values()]
    own += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (default, kind) in more.items()
    ]
    completed.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    completed.__annotations__ = {each.name: each.annotation for each in own}
    return completed


class Command(TyperCommand):
    """A command whose last word may be its dataset."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse options, and give every word to the argument or dataset that it is meant for."""
        parser = self._options_parser(ctx)
        try:
            values, words, _ = parser.parse_args(args=list(args))
        except Exception as error:
            raise _unknown_option(error) from None
        values |= self._placed(ctx, words, values)
        for param in sorted(self.get_params(ctx), key=lambda param: not param.is_eager):
            try:
                param.handle_parse_result(ctx, values, [])
            except Exception as error:
                raise self._missing_dataset(ctx, error) from None
        ctx.args = []
        return []

    def _options_parser(self, ctx: Any) -> Any:
        """Make a parser that leaves all words to `parse_args`."""
        every, self.params = self.params, [p for p in self.params if not _is_argument(p)]
        try:
            return super().make_parser(ctx)
        finally:
            self.params = every

    def _placed(self, ctx: Any, words: Sequence[str], given: Any) -> dict[str, Any]:
        """Map the names of parameters to the words that are meant for them."""
        own = [p for p in self.params if _is_argument(p) and p.name != WORD]
        rest, placed = list(words), dict[str, Any]()
        least = sum(param.required for param in own)
        takes_dataset = any(p.name == "dataset" and not _is_argument(p) for p in self.params)
        if takes_dataset and "dataset" not in given and len(rest) > least:
            placed["dataset"] = rest.pop(0 if _dataset_leads(rest) else -1)
        for param in own:
            if param.nargs == -1:
                placed[param.name], rest = tuple(rest), []
            elif param.name in STAGES and rest:
                placed[param.name], rest = "-".join(rest), []
            elif rest:
                placed[param.name] = rest.pop(0)
        if rest and not ctx.resilient_parsing:
            ctx.fail(f"unexpected argument {rest[0]!r}")
        return placed

    def _missing_dataset(self, ctx: Any, error: Exception) -> Exception:
        """Say how to name the dataset if that is what is missing; else return the error."""
        if getattr(getattr(error, "param", None), "name", "") != "dataset" or not _missing(error):
            return error
        own = [p.name.upper() for p in self.params if _is_argument(p) and p.required]
        usage = " ".join([*ctx.command_path.split(" ")[-1:], *own])
        return ConfigError(f"no dataset given: abs {usage} DATASET, or --dataset DATASET")


def _dataset_leads(words: Sequence[str]) -> bool:
    """Return whether the first of several words is known as a dataset, and the last one is not."""
    from pipeline.core.layers import known  # reads folders

    if len(words) == 1:
        return False
    datasets = known("datasets")
    leads, ends = (
        word in datasets or word.endswith((".yaml", ".yml")) for word in (words[0], words[-1])
    )
    return leads and not ends


def _is_argument(param: Any) -> bool:
    return str(param.param_type_name) == "argument"


def _missing(error: Exception) -> bool:
    return type(error).__name__ == "MissingParameter"


def _unknown_option(error: Exception) -> Exception:
    """Say which setting an unknown option may stand for; return other errors as they are."""
    if type(error).__name__ != "NoSuchOption":
        return error
    from pipeline.settings import settings_named  # imports all stages

    option = str(error.option_name)  # type: ignore[attr-defined]
    near = sorted(getattr(error, "possibilities", None) or ())
    settings = settings_named(option.lstrip("-").replace("-", "_"))
    options = [*(f"--set {name}=..." for name in settings[:1]), *near, *settings[1:]]
    others = f" (or {', '.join(options[1:])})" if options[1:] else ""
    hint = f"; did you mean {options[0]}{others}?" if options else " (see abs COMMAND --help)"
    return ConfigError(f"No such option: {option}{hint}")
