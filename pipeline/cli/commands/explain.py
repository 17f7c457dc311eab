"""`abs explain`: the crops and descriptions that decided the prediction of one image."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.explain_tables import print_deciding
from pipeline.explain.deciding import Deciding
from pipeline.explain.explainer import Explainer
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.run import Run


def command(
    dataset: DatasetOption,
    image: Annotated[
        str, typer.Argument(help="Number of the image in the index, its path, or its path's end.")
    ],
    method: Annotated[
        str, typer.Option("--method", "-m", help="Method whose score it is.")
    ] = "abs",
    views: Annotated[int, typer.Option(min=1, help="Number of crops to list.")] = 8,
    texts: Annotated[
        int, typer.Option(min=1, help="Number of descriptions to list, of each of the two classes.")
    ] = 3,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a prediction: which crops decided, and which descriptions they matched.

    Compares the predicted class with its rival: the true class if the prediction is wrong, or else
    the second best. Contributions add up to the stored scores. Only stored results are read.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    (scores,) = run.named("scores")
    found = Explainer.of(run.store.open(scores), method).explain(image)
    deciding = Deciding.of(found, views, texts)
    if as_json:
        chosen = run.selection.as_dict() if run.selection else None
        print_json({"selection": chosen, **deciding.as_dict()})
    else:
        print(f"{run.store.dataset}: {run.selection}")
        print_deciding(deciding)
