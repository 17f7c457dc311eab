"""`abs describe`: let a language model describe the classes of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.describe_tables import print_plan, print_report
from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.paths import expand
from pipeline.core.progress import Reporter
from pipeline.core.words import counted
from pipeline.describe.answers import Answers
from pipeline.describe.asking import answer_all
from pipeline.describe.client import Endpoint, Price, check_address
from pipeline.describe.description import Description
from pipeline.describe.recipes import Recipe, load_recipe
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.plan import read
from pipeline.settings import Settings, load

RECIPE = "recipe."
"""Section of the recipe in `--set`."""
BY_HAND = "by-hand"
"""Model of answers that are read from a table, unless one is named."""


def command(
    dataset: DatasetOption,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Recipe: a name in cfgs/recipes, or a YAML file.")
    ] = "cupl",
    model: Annotated[
        str | None, typer.Option("--model", help="Model, as the endpoint knows it.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Base address of the endpoint. Default: OPENAI_BASE_URL, or OpenAI's."),
    ] = None,
    about: Annotated[
        str, typer.Option(help="A sentence about the pictures, for recipes that need it.")
    ] = "",
    to: Annotated[
        str | None, typer.Option(help="File to write. Default: one in the store.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print requests, tokens and cost; ask nothing.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Ask nothing; write what is stored.")
    ] = False,
    prompts_to: Annotated[
        str | None, typer.Option(help="CSV file for the prompts, to be answered elsewhere.")
    ] = None,
    answers: Annotated[
        str | None, typer.Option(help="CSV file of answers, from --prompts-to.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 8,
    rate: Annotated[float, typer.Option(min=0, help="Most requests a minute; 0: any.")] = 0,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts at a request.")] = 5,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take.")] = 120,
    price: Annotated[
        str | None,
        typer.Option(metavar="IN,OUT", help="Price of a million tokens of prompts and of answers."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Most money to be spent; needs --price.")
    ] = None,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Let a language model describe the classes of a dataset.

    Asks an endpoint that speaks OpenAI's protocol (vLLM, Ollama, llama.cpp, hosted ones), stores
    every answer, and writes a JSON file of texts by class name. The key of the endpoint is read
    from OPENAI_API_KEY. The same command goes on where it was interrupted and asks nothing twice.
    Fields of the recipe are set like settings: --set recipe.samples=4.
    """
    if budget is not None and price is None:
        raise ConfigError("--budget: give --price IN,OUT too, for a million tokens")
    cost = Price() if price is None else Price.parse(price)
    check_address(endpoint)
    by_hand = prompts_to or answers
    if model is None and not by_hand:
        raise ConfigError("give --model NAME, as the endpoint knows it")
    fields, overrides = _fields_of_recipe(overrides or [])
    settings = load(dataset, profile, overrides, weights_dir)
    chosen = load_recipe(recipe, fields)
    description = _description(settings, Path(recipe).stem, chosen, model or BY_HAND, about)
    reporter = Reporter(quiet or as_json)
    _say_damaged(description.answers, reporter)
    if dry_run:
        planned = description.plan(cost)
        print_json(planned) if as_json else print_plan(planned)
        return 0
    if by_hand:
        if not _by_hand(description, prompts_to, answers):
            return 0
    elif not partial and description.pending():
        place = Endpoint(endpoint, timeout, retries, rate)
        answer_all(description, place, concurrency, budget, cost, reporter)
    report = description.write(_default_file(description) if to is None else expand(to))
    print_json(report) if as_json else print_report(report, chosen.rule, dataset)
    return 0


def _fields_of_recipe(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Part overrides of the recipe, without the name of its section, from those of settings."""
    of_recipe = [each for each in overrides if each.startswith(RECIPE)]
    others = [each for each in overrides if not each.startswith(RECIPE)]
    return [each.removeprefix(RECIPE) for each in of_recipe], others


def _default_file(description: Description) -> Path:
    """Return the file of the texts where none is named: beside the stored answers."""
    return description.answers.path.with_name(f"{description.stem}.json")


def _description(
    settings: Settings, name: str, recipe: Recipe, model: str, about: str
) -> Description:
    """Return a description of the classes of a dataset, with the answers in its store."""
    _, found = read(settings)
    stored = Answers(settings.paths.store / settings.dataset.name / "describe" / "answers.jsonl")
    return Description(name, recipe, model, about, found.classes.names, stored)


def _say_damaged(answers: Answers, reporter: Reporter) -> None:
    if answers.damaged:
        reporter.say(f"{answers.path}: {answers.damaged} lines are damaged and asked again")


def _by_hand(description: Description, prompts_to: str | None, answers: str | None) -> bool:
    """Read and write tables of answers and prompts; return whether all is answered."""
    if answers is not None:
        with description.answers.writing():
            filled, empty = description.add_answers(expand(answers))
        print(f"{filled:,} answers stored" + (f", {empty:,} are empty" if empty else ""))
    left = description.pending()
    if prompts_to is not None:
        description.write_prompts(expand(prompts_to))
        print(
            f"{len(left):,} prompts: {prompts_to}\nNext: fill in the column answer, then --answers"
        )
        return False
    if left:
        raise AbsError(
            f"without an answer yet: {counted(len(left), 'requests')}; write them with "
            "--prompts-to FILE.csv, or give --partial"
        )
    return True
