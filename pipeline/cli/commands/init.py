"""`abs init`: write the configuration of a new dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.paths import expand
from pipeline.core.words import counted
from pipeline.datasets.dataset import Dataset
from pipeline.first_steps.new_dataset import templates_beside, write_dataset
from pipeline.options import JsonOption, SentencesOption, print_json


def command(
    name: Annotated[str, typer.Argument(help="Name of the new dataset.")],
    images: Annotated[
        str,
        typer.Option(
            help="Folder of class folders, table (CSV, Parquet, JSON lines) with path and label, "
            "split file of CoOp, Hugging Face dataset on disk, or folder of WebDataset shards."
        ),
    ],
    reader: Annotated[
        str | None, typer.Option(help="Reader, such as imagenet-part. Default: by what is there.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to use, if the dataset has several.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of images or their paths, if it has another name.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of labels, if it has another name.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="File of class names: JSON by folder, or a list in label order (JSON or lines)."
        ),
    ] = None,
    folders_are_classes: Annotated[
        bool,
        typer.Option(
            "--folders-are-classes",
            help="Read folders that look like splits or variants as classes.",
        ),
    ] = False,
    descriptions: SentencesOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing configuration.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write cfgs/datasets/NAME.yaml for your own images.

    Detects the layout of the images, counts images and classes, and prints the next commands.
    """
    path, found = write_dataset(
        name,
        expand(images),
        reader=reader,
        split=split,
        image_column=image_column,
        label_column=label_column,
        folders_are_classes=folders_are_classes,
        names=expand(names) if names else None,
        descriptions=expand(descriptions) if descriptions else None,
        force=force,
    )
    if as_json:
        print_json({"path": str(path), **_facts(found)})
        return
    _print_found(found, templates_beside(expand(images)))
    print(f"{path}\nNext: abs doctor {name}; abs run {name}")


def _facts(found: Dataset) -> dict[str, int | str]:
    """Return what was found, for programs: counts, and the layout in words."""
    return {
        "images": len(found.samples),
        "skipped": len(found.skipped),
        "classes": len(found.classes.names),
        "layout": found.listing.layout,
    }


def _print_found(found: Dataset, templates: Path | None) -> None:
    """Print what was found, and the file of templates beside the images, if any."""
    skipped = f", {counted(len(found.skipped), 'files')} skipped" if found.skipped else ""
    print(
        f"{counted(len(found.samples), 'images')}, {counted(len(found.classes.names), 'classes')} "
        f"({found.listing.layout}){skipped}"
    )
    if templates:
        print(f"templates of clip-e: {templates}")
