"""Create a small dataset of real files, and compute digests of runs over it."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from pipeline.core.layers import CFGS
from pipeline.core.paths import PROJECT
from pipeline.run import Run

IMAGES = PROJECT / "pipeline" / "demo" / "images"
"""Images of the demo, in a folder for each class."""


def write_dataset(folder: Path, classes: int = 2, images: int = 4, **layout: int) -> Path:
    """Copy a few of the demo's images into `folder`, with a dataset YAML; return its path."""
    for source in sorted(IMAGES.iterdir())[:classes]:
        (folder / "images" / source.name).mkdir(parents=True)
        for image in sorted(source.iterdir())[:images]:
            shutil.copy2(image, folder / "images" / source.name)
    config = yaml.safe_load((CFGS / "datasets" / "demo.yaml").read_text())
    config["dataset"] = {"name": "tiny", "root": str(folder / "images")}
    config["layout"] = {"images": 3, "crops": 2, **layout}
    config["scores"]["methods"] = ["clip", "cupl", "abs"]
    config["methods"] = {"wca": {"pool": 4, "n": 3}}
    config["runtime"]["threads"] = 1  # more threads only wait for each other in small batches
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run_all_stages(run: Run) -> dict[str, str]:
    """Run every stage; return the content digest of each artifact by stage."""
    run.execute(run.stages, [], quiet=True)
    return digests(run)


def digests(run: Run) -> dict[str, str]:
    """Compute the content digest of each finished artifact by stage."""
    return {
        stage.name: run.store.open(stage).digest(stage.units(run.store)) for stage in run.stages
    }
