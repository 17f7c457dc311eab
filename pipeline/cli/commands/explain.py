"""`abs explain`: the crops and descriptions that decided the prediction of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.explain_tables import print_deciding
from pipeline.core.progress import Reporter
from pipeline.explain.deciding import Deciding
from pipeline.explain.explainer import Explainer
from pipeline.options import (
    DatasetOption,
    JsonOption,
    SetOption,
    StoredProfileOption,
    StoreOption,
    WeightsOption,
    print_json,
)
from pipeline.report.choice import Choice
from pipeline.report.stored import StoredRun, find_run


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
    profile: StoredProfileOption = None,
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    store: StoreOption = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write the crop explorer of this image there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a prediction: which crops decided, and which descriptions they matched.

    Compares the predicted class with its rival: the true class if the prediction is wrong, or else
    the second best. Contributions add up to the stored scores. Only stored results are read, of a
    store or of a copy of one; neither weights nor images are needed.
    """
    run = find_run(dataset, profile, overrides or (), store)
    if run.nearest:
        Reporter().say(run.nearest)
    found = Explainer.of(run.artifact("scores"), method).explain(image)
    deciding = Deciding.of(found, views, texts)
    page = None if html is None else _explored(run, html.absolute(), found.image_id, method)
    if as_json:
        print_json({**run.as_dict(), "page": page and str(page), **deciding.as_dict()})
        return
    print(f"{run.dataset}: {run.selection}")
    print_deciding(deciding)
    if page:
        print(f"\n{page}")


def _explored(run: StoredRun, folder: Path, image_id: str, method: str) -> Path:
    """Write a report that shows this image alone; return the page of its crops."""
    from pipeline.report.write import write_report  # needs the extra `report`

    write_report(run, folder, Choice([image_id]), (method, None), lambda _: None)
    return folder / "crops.html"
