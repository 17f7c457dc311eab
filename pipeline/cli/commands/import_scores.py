"""`abs import-scores`: make the results of another system a method like the others."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.core.paths import expand
from pipeline.core.words import counted
from pipeline.options import (
    DatasetOption,
    JsonOption,
    ProfileOption,
    SetOption,
    WeightsOption,
    print_json,
)
from pipeline.plan import read
from pipeline.run import Run
from pipeline.studies.imports import import_scores, method_name


def command(
    file: Annotated[str, typer.Argument(help="CSV or Parquet with image_id and pred or scores.")],
    dataset: DatasetOption,
    name: Annotated[str, typer.Option(help="Name of the results: the method is imported:NAME.")],
    source: Annotated[str, typer.Option(help="Where they come from: system, version, settings.")],
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import the scores or predictions of another system, as a method like the others.

    The file has a row for each image of the index: image_id, and either pred, a label or class
    name, or a column of scores for each class, under its name or label. The index must have been
    made, as by `abs index DATASET`.
    """
    run = Run.of(dataset, profile, overrides, weights_dir)
    images = run.store.open(run.named("index")[0]).table("images")["image_id"]
    classes = read(run.settings)[1].classes
    path, what = import_scores(expand(file), run.store.folder, name, source, images, classes)
    if as_json:
        print_json({"method": method_name(name), "file": str(path), "images": len(images)})
        return
    print(f"{what} of {counted(len(images), 'images')}: {path}")
    print(f"Score beside others: --set 'scores.methods=[abs,{method_name(name)}]'")
