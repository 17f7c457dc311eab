"""`abs classify`: classify single images, without a dataset or a store."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.core.errors import ConfigError
from pipeline.core.layers import merge, parse_override
from pipeline.core.section import flatten
from pipeline.options import (
    JsonOption,
    ProfileOption,
    SentencesOption,
    SetOption,
    WeightsOption,
    print_json,
)

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.classifier import Classifier


def command(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    classes: Annotated[
        str | None,
        typer.Option(help="File of class names: a JSON list, or lines of a .txt."),
    ] = None,
    descriptions: SentencesOption = None,
    of_dataset: Annotated[  # `dataset` would also be taken from the words, which are images
        str | None,
        typer.Option("--dataset", "-d", help="Dataset that gives classes, texts and models."),
    ] = None,
    clip: Annotated[
        str, typer.Option(help="CLIP: a name of open_clip, local-dir:FOLDER or hf-hub:OWNER/NAME.")
    ] = "ViT-B-16",
    weights: Annotated[
        str, typer.Option(help="Weights of the CLIP: a tag, a file, or none if it has its own.")
    ] = "openai",
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
    profile: ProfileOption = "official",
    overrides: SetOption = None,
    weights_dir: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classify single images by every method whose texts are given.

    Prints the classes of highest score of each method, with their probabilities. Scores are those
    that a run over a dataset stores.
    """
    from pipeline.classifier import Classifier

    changes: dict[str, Any] = reduce(merge, map(parse_override, overrides or ()), {})
    common: dict[str, Any] = {
        "profile": profile,
        "settings": dict(flatten(changes, "")),
        "weights_dir": weights_dir,
    }
    if of_dataset is not None:
        if classes or descriptions:
            raise ConfigError("give --dataset, or --classes and --descriptions, not both")
        classifier = Classifier.of(of_dataset, **common)
    elif classes is None:
        raise ConfigError("give --classes FILE, or --dataset for those of a dataset")
    else:
        model = clip, None if weights == "none" else weights
        classifier = Classifier(classes, descriptions, *model, **common)
    found = [_best(classifier, image, top) for image in images]
    print_json(found) if as_json else _print(found, top)


def _best(classifier: Classifier, image: str, top: int) -> dict[str, Any]:
    """Return the classes of highest score of an image by method, with their probabilities."""
    table: pd.DataFrame = classifier(image, probabilities=True)
    methods = {}
    for method, row in table.iterrows():
        best = row.sort_values(ascending=False, kind="stable").head(top)
        methods[str(method)] = [
            {"class": str(name), "probability": float(value)} for name, value in best.items()
        ]
    return {"image": image, "methods": methods}


def _print(found: list[dict[str, Any]], top: int) -> None:
    from rich.table import Table

    from pipeline.cli.tables import print_rich

    for each in found:
        table = Table("method", title=each["image"], title_justify="left", box=None, pad_edge=False)
        places = min(top, max(map(len, each["methods"].values())))
        for place in range(places):
            table.add_column(f"{place + 1}.")
        for method, best in each["methods"].items():
            cells = [f"{one['class']} {100 * one['probability']:.1f} %" for one in best]
            table.add_row(method, *cells)
        print_rich(table)
