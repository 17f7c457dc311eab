"""`abs try`: a first result on one's own photographs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.tables import print_results, print_unscored_methods, results
from pipeline.core.layers import layered, paths_of
from pipeline.core.paths import expand
from pipeline.core.progress import Reporter
from pipeline.first_steps.trial import short_name, write_sample
from pipeline.first_steps.trial_models import chosen_models
from pipeline.options import (
    JsonOption,
    ProfileOption,
    QuietOption,
    SetOption,
    WeightsOption,
    distributed,
    print_json,
)
from pipeline.run import Run


@distributed
def command(
    context: typer.Context,
    images: Annotated[
        str, typer.Argument(help="Photographs in a folder for each class, or what abs init takes.")
    ],
    descriptions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON file of sentences or descriptors by class name."),
    ] = None,
    count: Annotated[
        int, typer.Option("--images", min=2, help="Number of photographs in the sample.")
    ] = 40,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    engine: Any = None,
) -> None:
    """Try the methods on a sample of your own photographs, in a few minutes on a CPU.

    Takes a sample of the photographs, few crops (N = 8), the methods whose texts are there, and
    weights that are on this machine: nothing is downloaded unless you name it. Crops and time are
    said before the run starts.
    """
    reporter, given = Reporter(quiet or as_json), list(overrides or ())
    paths = paths_of(layered(None, profile, given, weights_dir))
    texts = expand(descriptions) if descriptions else None
    sample = write_sample(expand(images), count, texts, paths)
    with reporter.busy("looking for weights on this machine"):
        models = chosen_models(given, paths)
        run = Run.of(str(sample.settings), profile, [*models, *given], weights_dir)
    for line in [*sample.notes, *_plan(run)]:
        reporter.say(line)
    run.execute(run.stages, [], quiet or as_json, engine=engine)
    rows = results(run.store, run.stages[-1])
    if as_json:
        print_json({"settings": str(sample.settings), "models": models, "results": rows})
        return
    print_results(rows, run)
    print_unscored_methods(run.settings)
    name = short_name(expand(images))
    more = f" --descriptions {descriptions}" if descriptions else ""
    reporter.say(
        f"All of them, with N = 60: abs init {name} --images {images}{more}; abs run {name}"
    )


def _plan(run: Run) -> list[str]:
    """Return what is tried, one line each: methods and models."""
    names = {stage.model_name: None for stage in run.stages if stage.model_name}
    return [f"methods: {', '.join(run.settings.chosen)}", f"models: {', '.join(names)}"]
