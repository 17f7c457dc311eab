"""`abs init`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.core.paths import expand
from pipeline.new_dataset import write_dataset


def command(
    name: Annotated[str, typer.Argument(help="What to call the dataset.")],
    images: Annotated[
        str,
        typer.Option(
            help="A folder of class folders, a CSV or Parquet with path and label, a Hugging Face "
            "dataset on disk, or a folder of WebDataset shards."
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Of a dataset with several: which.")] = None,
    names: Annotated[
        str | None, typer.Option(help="A JSON file of class names: by folder, or in order.")
    ] = None,
    descriptions: Annotated[
        str | None, typer.Option(help="A JSON file of sentences by class name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write cfgs/datasets/NAME.yaml for images of one's own."""
    path, found = write_dataset(
        name,
        expand(images),
        split=split,
        names=expand(names) if names else None,
        descriptions=expand(descriptions) if descriptions else None,
        force=force,
    )
    print(f"{len(found.samples):,} images, {len(found.classes)} classes ({found.layout})")
    print(f"{path}\nNext: abs doctor {name}; abs run --dataset {name}")
